#include "cloud/api/endpoint_status.h"

#include <algorithm>

#include "cloud/limits.h"
#include "cloud/provider.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

// Has failed at least once since it was last well.
bool is_failing(const Replica& replica) {
  return replica.failures > 0 || replica.state == ReplicaState::not_ready;
}

std::string told(const Replica& replica) {
  return replica.message.empty() ? fmt::format("{}: {}", replica.id, replica.reason)
                                 : fmt::format("{}: {}: {}", replica.id, replica.reason, replica.message);
}

void add(DeploymentStatus& status, const Replica& replica) {
  if (replica.goal != ReplicaGoal::run) return;
  ++status.replicas;
  status.ready += replica.state == ReplicaState::ready;
  status.updated += replica.revision == status.revision;
  if (is_failing(replica) && status.message.empty()) status.message = told(replica);
}

EndpointState state_of(const Endpoint& endpoint, const EndpointStatus& status, bool failing,
                       bool no_capacity) {
  if (endpoint.paused) return EndpointState::paused;
  if (status.wanted == 0 && status.replicas == 0) return EndpointState::idle;
  if (status.ready > 0) return status.ready >= status.wanted ? EndpointState::ready : EndpointState::degraded;
  if (no_capacity) return EndpointState::no_capacity;
  return failing ? EndpointState::failed : EndpointState::starting;
}

// All rows of these endpoints, page by page.
template <typename T>
std::map<std::string, std::vector<T>> rows_of(const store::Table<T>& table, Transaction& transaction,
                                              const std::vector<Endpoint>& endpoints) {
  store::Filter filter{.field = "endpoint", .compare = store::Compare::any_of};
  for (const Endpoint& endpoint : endpoints) filter.values.emplace_back(endpoint.id);
  std::map<std::string, std::vector<T>> found;
  store::ListQuery query{.filters = {filter}, .limit = limits::kStorePageRows};
  do {
    store::Page<T> page = table.list(transaction, query);
    for (T& row : page.rows) found[row.endpoint].push_back(std::move(row));
    query.after = page.next;
  } while (!query.after.empty());
  return found;
}

// What came of the last try to place a replica: the message if there was no room for it.
std::string last_want_of_room(Transaction& transaction, const std::string& endpoint) {
  const auto row = transaction.query_row(
      "SELECT reason, message FROM events WHERE endpoint = ? AND reason IN (?, 'Placed') ORDER BY id DESC "
      "LIMIT 1",
      endpoint, reason_name(Reason::no_capacity));
  if (!row || store::as_text(row->at(0), "reason") == "Placed") return {};
  return store::as_text(row->at(1), "message");
}

bool lacks_replicas(const std::vector<Deployment>& deployments, const std::vector<Replica>& replicas) {
  int64_t wanted = 0;
  for (const Deployment& deployment : deployments) wanted += deployment.replicas;
  return std::ranges::count(replicas, ReplicaGoal::run, &Replica::goal) < wanted;
}

}  // namespace

EndpointStatus endpoint_status(const Endpoint& endpoint, const std::vector<Deployment>& deployments,
                               const std::vector<Replica>& replicas, const std::string& no_capacity) {
  EndpointStatus status;
  for (const DeploymentSpec& spec : endpoint.deployments) {
    const std::string id = endpoint.id + "-" + spec.name;
    DeploymentStatus part{.name = spec.name, .revision = spec.revision};
    for (const Replica& replica : replicas)
      if (replica.deployment == id) add(part, replica);
    status.replicas += part.replicas;
    status.ready += part.ready;
    if (status.message.empty()) status.message = part.message;
    status.deployments.push_back(std::move(part));
  }
  for (const Deployment& deployment : deployments) status.wanted += deployment.replicas;
  const bool unplaced = !no_capacity.empty() && status.replicas < status.wanted;
  status.state = state_of(endpoint, status, !status.message.empty(), unplaced);
  if (unplaced) status.message = no_capacity;
  return status;
}

std::vector<EndpointStatus> endpoint_statuses(const Tables& tables, Transaction& transaction,
                                              const std::vector<Endpoint>& endpoints) {
  const auto deployments = rows_of(tables.deployments, transaction, endpoints);
  const auto replicas = rows_of(tables.replicas, transaction, endpoints);
  const auto of = [](const auto& rows, const std::string& id) {
    const auto found = rows.find(id);
    return found == rows.end() ? typename std::decay_t<decltype(rows)>::mapped_type() : found->second;
  };
  std::vector<EndpointStatus> statuses;
  for (const Endpoint& endpoint : endpoints) {
    const std::vector<Deployment> wanted = of(deployments, endpoint.id);
    const std::vector<Replica> there = of(replicas, endpoint.id);
    const std::string no_room =
        lacks_replicas(wanted, there) ? last_want_of_room(transaction, endpoint.id) : std::string();
    statuses.push_back(endpoint_status(endpoint, wanted, there, no_room));
  }
  return statuses;
}

}  // namespace neutrino::cloud
