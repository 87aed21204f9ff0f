// Where replicas run, through the API: nodes and node groups, and the shapes that replicas may have. They belong to the platform; a
// workspace sees the node groups that it may use and what is in them.
#include <algorithm>
#include <cmath>

#include "cloud/api/collection.h"
#include "cloud/api/field_checks.h"
#include "cloud/provider.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

bool may_use(const Caller& caller, const NodeGroup& group) {
  return caller.platform || group.workspaces.empty() ||
         std::ranges::find(group.workspaces, caller.workspace) != group.workspaces.end();
}

std::vector<NodeGroup> groups_of(const Tables& tables, const ApiCall& call, Transaction& transaction) {
  std::vector<NodeGroup> groups =
      tables.node_groups.list(transaction, {.limit = limits::kStorePageRows}).rows;
  std::erase_if(groups, [&](const NodeGroup& group) { return !may_use(call.caller, group); });
  return groups;
}

store::Filter one_of(const std::vector<NodeGroup>& groups, std::string_view field) {
  store::Filter filter{.field = std::string(field), .compare = store::Compare::any_of};
  for (const NodeGroup& group : groups) filter.values.emplace_back(group.name);
  return filter;
}

// ---- shapes

void check_shape(ApiCall&, Transaction&, Shape& shape, const Shape*) {
  check_slug("name", shape.name, 63);
  check_range("memory_bytes", shape.memory_bytes, 0, limits::kReplicaMemoryBytes);
  check_number("cores", shape.cores, 0, limits::kReplicaCores);
  check_range("price_per_hour", shape.price_per_hour, 0, limits::kAmountMax);
}

// The text is a part of the JSON of an endpoint that names the shape, and of no other's: names have no quotes in them.
void check_unused(Transaction& transaction, const Shape& shape) {
  const auto row =
      transaction.query_row("SELECT name FROM endpoints WHERE deployments LIKE ? ORDER BY name LIMIT 1",
                            fmt::format("%\"shape\":\"{}\"%", shape.name));
  if (!row) return;
  throw make_error(ErrorCode::failed_precondition, "the shape '{}' is in use, by the endpoint '{}' for one",
                   shape.name, store::as_text(row->at(0), "name"))
      .with_reason("in_use");
}

// ---- node groups

void check_group(const Tables& tables, Transaction& transaction, const NodeGroup& group) {
  check_slug("name", group.name, 63);
  const auto named = [&](const ProviderEntry& entry) { return entry.name == group.provider; };
  if (std::ranges::none_of(providers(), named))
    throw make_error(ErrorCode::invalid_argument, "provider must be one of those there are, got '{:.64}'",
                     group.provider)
        .with_param("provider");
  for (size_t i = 0; i < group.workspaces.size(); ++i)
    if (!tables.workspaces.find(transaction, group.workspaces[i]))
      throw make_error(ErrorCode::invalid_argument, "workspaces[{}]: there is no workspace '{:.64}'", i,
                       group.workspaces[i])
          .with_param(fmt::format("workspaces[{}]", i));
}

void check_empty(const Tables& tables, Transaction& transaction, const NodeGroup& group) {
  if (tables.nodes.count(transaction, {{.field = "node_group", .value = group.name}}) == 0) return;
  throw make_error(ErrorCode::failed_precondition, "the node group '{}' has nodes", group.name)
      .with_reason("in_use");
}

// Which other workspaces may use a group is not for everyone.
void hide_others(const ApiCall& call, std::vector<json::object>& objects) {
  if (call.caller.platform) return;
  for (json::object& object : objects)
    if (!object["workspaces"].as_array().empty()) object["workspaces"] = json::array{call.caller.workspace};
}

}  // namespace

std::vector<ApiRoute> fleet_api(const ApiServices& services) {
  const Tables& tables = services.tables;
  const Collection<Shape> shapes{
      .path = "/api/v1/shapes",
      .item_path = "/api/v1/shapes/{id}",
      .noun = "shape",
      .rows = tables.shapes,
      .write = Needs::platform,
      .check = check_shape,
      .before_erase = [](ApiCall&, Transaction& tx, const Shape& shape) { check_unused(tx, shape); }};
  const Collection<NodeGroup> groups{
      .path = "/api/v1/node-groups",
      .item_path = "/api/v1/node-groups/{id}",
      .noun = "node group",
      .rows = tables.node_groups,
      .write = Needs::platform,
      .check = [&tables](ApiCall&, Transaction& tx, NodeGroup& group,
                         const NodeGroup*) { check_group(tables, tx, group); },
      .before_erase = [&tables](ApiCall&, Transaction& tx,
                                const NodeGroup& group) { check_empty(tables, tx, group); },
      .narrow = [&tables](ApiCall& call, Transaction& tx) -> std::vector<store::Filter> {
        return {one_of(groups_of(tables, call, tx), "name")};
      },
      .sees = [](ApiCall& call, Transaction&, const NodeGroup& group) { return may_use(call.caller, group); },
      .show = [](ApiCall& call, Transaction&, const std::vector<NodeGroup>&,
                 std::vector<json::object>& objects) { hide_others(call, objects); }};
  const Collection<Node> nodes{
      .path = "/api/v1/nodes",
      .item_path = "/api/v1/nodes/{id}",
      .noun = "node",
      .rows = tables.nodes,
      .verbs = kReadOnly,
      .narrow = [&tables](ApiCall& call, Transaction& tx) -> std::vector<store::Filter> {
        return {one_of(groups_of(tables, call, tx), "node_group")};
      },
      .sees =
          [&tables](ApiCall& call, Transaction& tx, const Node& node) {
            const auto group = tables.node_groups.find(tx, node.node_group);
            return group ? may_use(call.caller, *group) : call.caller.platform;
          }};
  std::vector<ApiRoute> routes = collection_routes(shapes);
  for (ApiRoute& route : collection_routes(groups)) routes.push_back(std::move(route));
  for (ApiRoute& route : collection_routes(nodes)) routes.push_back(std::move(route));
  return routes;
}

}  // namespace neutrino::cloud
