// The control plane's API as the terminal uses it: JSON in and out, errors as the API says them.
//
// Every write carries an Idempotency-Key, so that one whose answer was lost is simply sent again: the control plane may start again
// in the middle of a command and nobody notices.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "cli/contexts.h"
#include "net/fetch.h"

namespace neutrino::cli {

using Query = std::vector<std::pair<std::string, std::string>>;

struct WriteOptions {
  bool dry_run = false;  // say what would be
  int64_t etag = 0;      // only if the row still has it (412 otherwise); 0: whatever it has
};

struct Listing {
  json::array items;
  int64_t seq = 0;  // of the change log, before the first page was read
};

class CloudClient {
 public:
  explicit CloudClient(Context context);

  // Paths without "/api/v1". All throw Error with the API's message, its reason, and the field's path as param; Error{unavailable}
  // when nobody answers.
  json::value get(std::string_view path, const Query& query = {});
  std::string get_text(std::string_view path, const Query& query = {});          // CSV
  std::optional<json::value> find(std::string_view path);                        // nothing: 404
  Listing list(std::string_view path, Query query = {}, int64_t items_max = 0);  // of all pages; 0: no limit
  json::value write(std::string_view method, std::string_view path, const json::value& body = nullptr,
                    const WriteOptions& options = {});

  const Context& context() const { return context_; }

 private:
  net::FetchResponse fetch(net::FetchRequest request);
  net::FetchRequest request(std::string_view path, const Query& query) const;

  const Context context_;
  net::Fetcher fetcher_;
};

// "/endpoints/chat": one segment, percent-encoded.
std::string item_path(std::string_view collection, std::string_view name);

// What an answer that is no success says. For tests.
Error api_error(int status, const std::string& body);

}  // namespace neutrino::cli
