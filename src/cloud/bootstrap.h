// The first start of a control plane: somebody must be able to come in, and find something to work with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "cloud/schema.h"

namespace neutrino::cloud {

inline constexpr std::string_view kFirstWorkspace = "default";
inline constexpr std::string_view kFirstAdmin = "admin@localhost";

// Of a database without a workspace: makes one, its admin (of the platform, too), the node group of this machine, shapes, and a one-time
// key for the admin, whose text is put into `key_file`, readable for its owner only. Returns whether there was that to do.
//
// The file is written before the transaction is committed: a crash between leaves a file whose key is not good, and the next start
// makes everything anew. Of two first starts at once one does it.
bool bootstrap(store::Database& database, const Tables& tables, int64_t now_ms,
               const std::filesystem::path& key_file);

// A new one-time key for the admin of the oldest workspace, for who has locked himself out of the API but owns the machine. Makes that
// member again if it was removed or demoted; keys that were made here before and not used are good no more.
void bootstrap_again(store::Database& database, const Tables& tables, int64_t now_ms,
                     const std::filesystem::path& key_file);

}  // namespace neutrino::cloud
