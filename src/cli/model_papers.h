// What /v1/manifest, /v1/license and NIM's part of /v1/metadata say about a model.
#pragma once

#include "base/json.h"
#include "weights/store.h"

namespace neutrino::cli {

// name, path, sha, size, url, type, content: NIM's fields; terms and notice: what the license means for a user.
json::object license_json(const weights::ModelFacts& facts);

// The model's files with their digests, as far as the store knows them; never a path of this machine.
json::object manifest_json(const weights::OpenModel& model);

}  // namespace neutrino::cli
