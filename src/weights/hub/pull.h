// Models from elsewhere into the store. The front door of this folder.
#pragma once

#include <optional>
#include <string>

#include "weights/hub/download.h"
#include "weights/hub/reference.h"
#include "weights/hub/remote.h"
#include "weights/store.h"

namespace neutrino::weights {

struct PullRequest {
  Reference reference;  // not a path: Store::import() is for those
  std::optional<ModelName> name = {};
  FileChoice choice = {};   // beside what the reference says
  std::string sha256 = {};  // that a file at a URL must have; empty: not known
  DownloadOptions download = {};
};

// Asks the hub what there is and chooses the files. Throws Error.
RemoteModel look_up(const PullRequest& request, const HubSettings& settings, PullObserver& observer);

// Downloads what is missing and puts the model into the store. Another process that pulls the same files is waited for. Throws
// Error; the store is then as before, and what has come stays in partial/ for the next time.
Manifest pull(Store& store, const PullRequest& request, const RemoteModel& model, PullObserver& observer);

ModelName name_for(const PullRequest& request, const RemoteModel& model);

// Downloads that were broken off and are not going on.
struct Unfinished {
  int64_t files = 0, bytes = 0;
};
Unfinished unfinished_downloads(const Store& store);
Unfinished remove_unfinished_downloads(const Store& store);

}  // namespace neutrino::weights
