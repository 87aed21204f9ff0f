// One remote file to its bytes in partial/, checked: ranged requests side by side, gone on with after a cut.
#pragma once

#include <cstdint>

#include "weights/hub/partial_file.h"
#include "weights/hub/remote.h"
#include "weights/store.h"

namespace neutrino::weights {

struct DownloadOptions {
  int64_t connections = 4;
  int64_t part_bytes = 0;  // of one request; 0: by the file's size
  int64_t retries = 5;     // in a row without a byte, of one request
};

// Afterwards `part` is whole and has the hash that `file` names; returns what the store is to take. Throws Error; what had come
// by then stays in `part` unless it is wrong.
StagedFile download(const RemoteModel& model, const RemoteFile& file, const DownloadOptions& options,
                    PartialFile& part, PullObserver& observer);

}  // namespace neutrino::weights
