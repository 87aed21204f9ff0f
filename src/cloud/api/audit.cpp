#include "cloud/api/audit.h"

#include "cloud/api/caller.h"
#include "cloud/api_key.h"
#include "cloud/limits.h"
#include "net/error_body.h"
#include "net/presented_key.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kPruneEvery = 1024;  // rows
constexpr size_t kTextBytes = 512;     // of a path or a message

// Rows are never taken from the end, so the largest number is the last that was given.
int64_t next_id(store::Transaction& transaction) {
  const auto row = transaction.query_row("SELECT COALESCE(MAX(id), 0) + 1 FROM audit");
  return store::as_integer(row->at(0), "audit.id");
}

}  // namespace

void note_call(store::Transaction& transaction, const Tables& tables, const ApiCall& call,
               const CallEnd& end) {
  AuditRow row{.id = next_id(transaction),
               .workspace = call.caller.workspace,
               .at_ms = call.now_ms,
               .actor = call.caller.actor,
               .address = std::string(net::peer_address(call.http)),
               .method = std::string(net::method_name(call.http.method)),
               .path = net::bounded_text(call.http.path, kTextBytes),
               .status = end.status,
               .request_id = call.http.id,
               .message = net::bounded_text(end.message, kTextBytes)};
  tables.audit.insert(transaction, row);
  if (row.id % kPruneEvery == 0)
    transaction.execute("DELETE FROM audit WHERE id <= ?", row.id - limits::kAuditRows);
}

Caller holder_of(store::Transaction& transaction, const Tables& tables, const net::Request& request) {
  const std::string digest = key_digest(net::presented_key(request));
  const auto found = tables.keys.list(transaction, {.filters = {{.field = "digest", .value = digest}}});
  if (found.rows.empty()) return {};
  const KeyRow& key = found.rows.front();
  return {.workspace = key.workspace, .actor = "key:" + key.name, .member = key.member, .key = key.id};
}

}  // namespace neutrino::cloud
