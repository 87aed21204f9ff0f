#include "cloud/state_rows.h"

#include <algorithm>
#include <utility>

namespace neutrino::cloud {
namespace {

template <typename T>
void put(store::Transaction& tx, const store::Table<T>& table, T row) {
  if (table.find(tx, row.id))
    table.update(tx, row);
  else
    table.insert(tx, row);
}

int64_t next_event(store::Transaction& tx) {
  return store::as_integer(tx.query_row("SELECT COALESCE(MAX(id), 0) + 1 FROM events")->at(0), "events.id");
}

}  // namespace

ClusterState StoredState::load() const {
  return database_.read([&](store::Transaction& tx) {
    ClusterState state;
    for (Deployment& deployment : list_all(tx, tables_.deployments))
      state.deployments.emplace(deployment.id, std::move(deployment));
    for (Replica& replica : list_all(tx, tables_.replicas))
      state.replicas.emplace(replica.id, std::move(replica));
    return state;
  });
}

void StoredState::commit(const Changes& changes) {
  database_.write([&](store::Transaction& tx) {
    for (const Deployment& deployment : changes.deployments) put(tx, tables_.deployments, deployment);
    for (const Replica& replica : changes.replicas) put(tx, tables_.replicas, replica);
    for (const std::string& id : changes.gone)
      if (const auto row = tables_.replicas.find(tx, id)) tables_.replicas.erase(tx, *row);
    for (const Event& event : changes.events) write_event(tx, tables_, event);
  });
  ++commits_;
}

void StoredState::set(std::vector<Deployment> deployments, const std::vector<std::string>& gone,
                      const std::vector<Event>& events) {
  database_.write([&](store::Transaction& tx) {
    for (const Deployment& deployment : deployments) put(tx, tables_.deployments, deployment);
    for (const Event& event : events) write_event(tx, tables_, event);
    for (const std::string& id : gone)
      if (const auto row = tables_.deployments.find(tx, id)) tables_.deployments.erase(tx, *row);
  });
  ++commits_;
}

void write_event(store::Transaction& transaction, const Tables& tables, const Event& event) {
  EventRow row{.deployment = event.deployment,
               .replica = event.replica,
               .reason = event.reason,
               .message = event.message,
               .at_ms = event.at_ms};
  if (const auto deployment = tables.deployments.find(transaction, event.deployment))
    row.workspace = deployment->workspace, row.endpoint = deployment->endpoint;
  write_event(transaction, tables, std::move(row));
}

void write_event(store::Transaction& transaction, const Tables& tables, EventRow event) {
  std::vector<EventRow> last =
      tables.events
          .list(transaction, {.filters = {{.field = "endpoint", .value = event.endpoint},
                                          {.field = "workspace", .value = event.workspace}},
                              .order_by = "id",
                              .direction = store::Direction::descending,
                              .limit = 1})
          .rows;
  const bool repeats = !last.empty() && last[0].deployment == event.deployment &&
                       last[0].replica == event.replica && last[0].reason == event.reason &&
                       last[0].message == event.message;
  if (!repeats) {
    event.id = next_event(transaction);
    tables.events.insert(transaction, event);
    return;
  }
  ++last[0].count;
  last[0].at_ms = event.at_ms;
  tables.events.update(transaction, last[0]);
}

}  // namespace neutrino::cloud
