// A model that lies elsewhere, as its hub or registry describes it; and how a hub is asked.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/fetch.h"
#include "weights/license.h"
#include "weights/model_files.h"

namespace neutrino::weights {

// Where hubs are and what they need to know of us. from_environment(): HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_CACHE, HF_HOME,
// XDG_CACHE_HOME as `huggingface_hub` reads them; NEUTRINO_OCI_CREDENTIALS ("user:password").
struct HubSettings {
  net::Url hub;
  std::string token = {};            // of the hub; empty: none
  std::filesystem::path cache = {};  // of `huggingface_hub`: its files are reused
  std::string oci_credentials = {};
  static HubSettings from_environment();
};
// The first line of a file that only its owner should read. Throws Error.
std::string read_token_file(const std::filesystem::path& path);

struct RemoteFile {
  std::string name;
  net::Url url;
  int64_t bytes = -1;               // -1: nobody said
  std::string sha256 = {};          // in hex; empty: unknown
  std::string git_sha1 = {};        // of the git blob: SHA-1 of "blob <bytes>\0" and the bytes
  std::filesystem::path copy = {};  // a file of this machine that may have the same bytes
};

struct RemoteModel {
  std::string source;  // for the manifest, with the commit or digest that the reference stood for
  std::string default_name;
  std::string commit = {};  // that the files must be of; empty: not a hub
  License license = {};
  std::vector<RemoteFile> files = {};
  std::string authorization = {};
  // What an answer that is not the file means, in words for the user.
  std::function<Error(const net::FetchResponse& response, std::string_view what)> explain = {};
};

// Told what happens; called from several threads, one at a time.
class PullObserver {
 public:
  virtual ~PullObserver() = default;
  virtual void note(std::string_view line) = 0;  // "config.json: the connection broke off, once more in 2 s"
  virtual void begin(const std::string& file, int64_t bytes_done,
                     int64_t bytes_total) = 0;    // of the file; total -1: unknown
  virtual void progress(int64_t bytes_done) = 0;  // of the file begun last
};

// Waits longer and longer between attempts, and counts them.
class Patience {
 public:
  explicit Patience(int64_t retries) : left_(retries), retries_(retries) {}
  void reset();  // there was progress
  // Sleeps, at least as long as `retry_after_s` says. False: the attempts are used up, or it would be too long.
  bool wait(std::optional<int64_t> retry_after_s = {});

 private:
  int64_t left_, retries_;
  std::chrono::milliseconds next_{250};
};

bool is_passing_status(int status);  // 408, 429, 500, 502, 503, 504
std::optional<int64_t> retry_after_s(const net::FetchResponse& response);
std::string status_text(const net::FetchResponse& response);  // "hub.test answers 404 to /api/models/x"

// An answer of any status that does not pass by itself; what does is tried again so many times.
net::FetchResponse get_patiently(net::Fetcher& fetcher, const net::FetchRequest& request, int64_t retries,
                                 PullObserver& observer);

// What a hub's listing says, and a registry's. Throw Error.
RemoteModel look_up_hub(const HubSettings& settings, const std::string& repository,
                        const std::string& revision, const FileChoice& choice, int64_t retries,
                        PullObserver& observer);
RemoteModel look_up_oci(const HubSettings& settings, const net::Url& registry, const std::string& repository,
                        const std::string& reference, const FileChoice& choice, int64_t retries,
                        PullObserver& observer);

}  // namespace neutrino::weights
