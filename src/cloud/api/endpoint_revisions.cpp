#include "cloud/api/endpoint_revisions.h"

#include <algorithm>

#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

using store::Compare;
using store::Transaction;

// The part of a deployment that makes its replicas what they are.
void copy_replica_part(const DeploymentSpec& from, DeploymentSpec& to) {
  to.model = from.model;
  to.arguments = from.arguments;
  to.command = from.command;
  to.environment = from.environment;
  to.shape = from.shape;
  to.memory_bytes = from.memory_bytes;
  to.cores = from.cores;
  to.ready_path = from.ready_path;
}

bool same_replicas(const DeploymentSpec& a, const DeploymentSpec& b) {
  DeploymentSpec parts[2];
  copy_replica_part(a, parts[0]);
  copy_replica_part(b, parts[1]);
  return to_json(parts[0]) == to_json(parts[1]);
}

const DeploymentSpec* find(const Endpoint* endpoint, const std::string& name) {
  if (!endpoint) return nullptr;
  const auto found = std::ranges::find(endpoint->deployments, name, &DeploymentSpec::name);
  return found == endpoint->deployments.end() ? nullptr : &*found;
}

int64_t last_revision(Transaction& transaction, const std::string& endpoint, const std::string& deployment) {
  const auto row = transaction.query_row(
      "SELECT COALESCE(MAX(revision), 0) FROM revisions WHERE endpoint = ? AND deployment = ?", endpoint,
      deployment);
  return store::as_integer(row->at(0), "revision");
}

}  // namespace

void count_revisions(Transaction& transaction, Endpoint& endpoint, const Endpoint* before) {
  for (DeploymentSpec& spec : endpoint.deployments) {
    const DeploymentSpec* was = find(before, spec.name);
    spec.revision = was && same_replicas(*was, spec) ? was->revision
                                                     : last_revision(transaction, endpoint.id, spec.name) + 1;
  }
}

void keep_revisions(const Tables& tables, Transaction& transaction, const Endpoint& endpoint,
                    const std::string& author, int64_t now_ms) {
  for (const DeploymentSpec& spec : endpoint.deployments) {
    if (tables.revisions.find(transaction, endpoint.id, spec.name, spec.revision)) continue;
    Revision row{.endpoint = endpoint.id,
                 .deployment = spec.name,
                 .revision = spec.revision,
                 .workspace = endpoint.workspace,
                 .spec = spec,
                 .author = author,
                 .created_ms = now_ms};
    tables.revisions.insert(transaction, row);
    transaction.execute("DELETE FROM revisions WHERE endpoint = ? AND deployment = ? AND revision <= ?",
                        endpoint.id, spec.name, spec.revision - limits::kRevisionsKept);
  }
}

void roll_back(const Tables& tables, Transaction& transaction, const Endpoint& endpoint,
               DeploymentSpec& deployment, int64_t revision) {
  const bool named = revision > 0;
  const auto page =
      tables.revisions.list(transaction, {.filters = {{.field = "endpoint", .value = endpoint.id},
                                                      {.field = "deployment", .value = deployment.name},
                                                      {.field = "revision",
                                                       .compare = named ? Compare::equal : Compare::less,
                                                       .value = named ? revision : deployment.revision}},
                                          .order_by = "revision",
                                          .direction = store::Direction::descending,
                                          .limit = 1});
  if (page.rows.empty())
    throw make_error(ErrorCode::not_found, "there is no {} of the deployment '{}'",
                     named ? fmt::format("revision {}", revision) : "earlier revision", deployment.name)
        .with_param("revision");
  copy_replica_part(page.rows.front().spec, deployment);
  deployment.memory_predicted_bytes = page.rows.front().spec.memory_predicted_bytes;
  deployment.revision = page.rows.front().revision;
}

}  // namespace neutrino::cloud
