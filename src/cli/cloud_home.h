// Where the cloud on this machine keeps its things, below $NEUTRINO_HOME.
#pragma once

#include <filesystem>
#include <string>

#include "cli/cloud_process.h"

namespace neutrino::cli {

// A path or "postgres://...", as store::DatabaseOptions takes it.
inline std::string default_database() { return (cloud_folder() / "cloud.db").string(); }
// Held exclusively by the control plane while it runs, and by a restore.
inline std::filesystem::path control_plane_lock() { return cloud_folder() / "control-plane.lock"; }
// Written by `neutrino up`: {"inference": URL, "api": URL}.
inline std::filesystem::path addresses_file() { return cloud_folder() / "addresses.json"; }

}  // namespace neutrino::cli
