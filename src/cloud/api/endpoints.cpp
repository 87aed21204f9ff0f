// Endpoints through the API. It writes rows that say what is wanted and nothing else: what runs for them is the controller's, and how that
// goes is read from its rows as `status`. An endpoint that is deleted is a row less; the controller drains and removes what ran for it.
#include <algorithm>
#include <set>

#include "cloud/api/collection.h"
#include "cloud/api/endpoint_checks.h"
#include "cloud/api/endpoint_revisions.h"
#include "cloud/api/endpoint_status.h"

namespace neutrino::cloud {
namespace {

using net::Method;
using store::Transaction;

// ---- names, unique in the workspace over names, aliases and adapters

std::map<std::string, std::string> names_of(
    const Endpoint& endpoint) {  // with the field that each comes from
  std::map<std::string, std::string> names{{endpoint.name, "name"}};
  for (size_t i = 0; i < endpoint.aliases.size(); ++i)
    names.emplace(endpoint.aliases[i], fmt::format("aliases[{}]", i));
  for (size_t i = 0; i < endpoint.adapters.size(); ++i)
    names.emplace(endpoint.adapters[i], fmt::format("adapters[{}]", i));
  return names;
}

void check_names_are_free(const Tables& tables, Transaction& transaction, const Endpoint& endpoint) {
  for (const auto& [name, path] : names_of(endpoint)) {
    const auto taken = tables.endpoint_names.find(transaction, endpoint.workspace, name);
    if (taken && taken->endpoint != endpoint.id)
      throw make_error(ErrorCode::already_exists, "{}: '{}' is a name of the endpoint {} already", path, name,
                       taken->endpoint)
          .with_param(path);
  }
}

void erase_names(Transaction& transaction, const std::string& endpoint) {
  transaction.execute("DELETE FROM endpoint_names WHERE endpoint = ?", endpoint);
}

void keep_names(const Tables& tables, Transaction& transaction, const Endpoint& endpoint) {
  erase_names(transaction, endpoint.id);
  for (const auto& [name, path] : names_of(endpoint)) {
    EndpointName row{.workspace = endpoint.workspace, .name = name, .endpoint = endpoint.id};
    tables.endpoint_names.insert(transaction, row);
  }
}

// ---- what the models will need; files are read for it, so before the transaction

std::vector<std::string> texts_of(const json::object& object, std::string_view name) {
  std::vector<std::string> texts;
  const json::value* list = object.if_contains(name);
  if (!list || !list->is_array()) return texts;
  for (const json::value& item : list->get_array())
    if (item.is_string()) texts.emplace_back(item.get_string());
  return texts;
}

// 0: what stands there is no deployment of a model, which is for check_endpoint_fields() to say.
int64_t predict(const ApiServices& services, const json::value& deployment, const std::string& path) {
  const json::object* object = deployment.if_object();
  const json::value* model = object ? object->if_contains("model") : nullptr;
  if (!services.predict_memory || !model || !model->is_string() || model->get_string().empty()) return 0;
  try {
    return services.predict_memory(std::string(model->get_string()), texts_of(*object, "arguments"));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw Error(error.code(), path + ": " + error.message()).with_param(path);
  }
}

void prepare(const ApiServices& services, ApiCall& call) {
  const json::object* body = call.body.if_object();
  const json::value* deployments = body ? body->if_contains("deployments") : nullptr;
  if (!deployments || !deployments->is_array()) return;
  const json::array& list = deployments->get_array();
  json::array predicted;
  for (size_t i = 0; i < list.size() && std::ssize(predicted) < limits::kEndpointDeployments; ++i)
    predicted.push_back(predict(services, list[i], fmt::format("deployments[{}].model", i)));
  call.prepared["predicted"] = std::move(predicted);
}

void take_predictions(const ApiCall& call, Endpoint& endpoint, const Endpoint* before) {
  const json::value* predicted = call.prepared.if_contains("predicted");
  const std::vector<DeploymentSpec> none;
  const std::vector<DeploymentSpec>& known = before ? before->deployments : none;
  for (size_t i = 0; i < endpoint.deployments.size(); ++i) {
    DeploymentSpec& spec = endpoint.deployments[i];
    const auto was = std::ranges::find(known, spec.name, &DeploymentSpec::name);
    if (predicted && i < predicted->get_array().size())
      spec.memory_predicted_bytes = predicted->get_array()[i].as_int64();
    else if (was != known.end())
      spec.memory_predicted_bytes = was->memory_predicted_bytes;
  }
}

// ---- the collection

// "chat-k3f9a2": replicas are named after it, so it has only what their names may have, and leaves room for the rest.
std::string make_id(const Endpoint& endpoint) {
  std::string slug = endpoint.name.substr(0, 16);
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (char& c : slug)
    if (!fits(c)) c = '-';
  while (slug.ends_with('-')) slug.pop_back();
  while (slug.starts_with('-')) slug.erase(0, 1);
  std::string id = new_id(slug.empty() ? "endpoint" : slug);
  id.resize(id.size() - 2);  // 30 random bits
  return id;
}

void check(const Tables& tables, ApiCall& call, Transaction& transaction, Endpoint& endpoint,
           const Endpoint* before) {
  check_endpoint_fields(endpoint);
  take_predictions(call, endpoint, before);
  check_endpoint_references(tables, transaction, endpoint);
  check_names_are_free(tables, transaction, endpoint);
  count_revisions(transaction, endpoint, before);
}

void keep(const Tables& tables, ApiCall& call, Transaction& transaction, const Endpoint& endpoint) {
  keep_names(tables, transaction, endpoint);
  keep_revisions(tables, transaction, endpoint, call.caller.actor, call.now_ms);
}

void add_statuses(const Tables& tables, ApiCall& call, Transaction& transaction,
                  const std::vector<Endpoint>& rows, std::vector<json::object>& objects) {
  const std::vector<std::string> wanted = query_list(call.query, "fields");
  if (!wanted.empty() && std::ranges::find(wanted, "status") == wanted.end()) return;
  const std::vector<EndpointStatus> statuses = endpoint_statuses(tables, transaction, rows);
  for (size_t i = 0; i < rows.size(); ++i) objects[i]["status"] = to_json(statuses[i]);
}

Collection<Endpoint> endpoint_collection(const Tables& tables) {
  return {.path = "/api/v1/endpoints",
          .item_path = "/api/v1/endpoints/{id}",
          .noun = "endpoint",
          .rows = tables.endpoints,
          .computed = {{"status", struct_schema<EndpointStatus>()}},
          .check = [&tables](ApiCall& call, Transaction& tx, Endpoint& row,
                             const Endpoint* before) { check(tables, call, tx, row, before); },
          .written = [&tables](ApiCall& call, Transaction& tx,
                               const Endpoint& row) { keep(tables, call, tx, row); },
          .before_erase =
              [](ApiCall&, Transaction& tx, const Endpoint& row) {
                erase_names(tx, row.id);
                tx.execute("DELETE FROM revisions WHERE endpoint = ?", row.id);
              },
          .make_id = make_id,
          .show = [&tables](
                      ApiCall& call, Transaction& tx, const std::vector<Endpoint>& rows,
                      std::vector<json::object>& objects) { add_statuses(tables, call, tx, rows, objects); }};
}

// ---- what an operator does with one: no field is checked again, so that it can be paused whatever has become of what it names

struct ScaleBody {
  std::optional<int64_t> replicas;
  static constexpr auto fields() {
    return std::tuple(field("replicas", &ScaleBody::replicas,
                            {.help = "until the autoscaler takes over again; null: it does now"}));
  }
};

struct RollbackBody {
  std::string deployment;
  int64_t revision = 0;
  static constexpr auto fields() {
    return std::tuple(
        field("deployment", &RollbackBody::deployment, {.help = "may be left out where there is one"}),
        field("revision", &RollbackBody::revision, {.help = "0: the one before"}));
  }
};

struct NoBody {
  static constexpr auto fields() { return std::tuple<>(); }
};

template <HasFields Body>
Body read_body(const ApiCall& call) {
  Body body;
  if (!call.body.is_null()) read_json(body, call.body, Accept::from_client);
  return body;
}

void scale(const ApiCall& call, const ScaleBody& body, Endpoint& endpoint) {
  if (!call.body.is_object() || !call.body.get_object().contains("replicas"))
    throw Error(ErrorCode::invalid_argument, "replicas must be given: a number, or null")
        .with_param("replicas");
  if (body.replicas && (*body.replicas < 0 || *body.replicas > limits::kEndpointReplicas))
    throw make_error(ErrorCode::invalid_argument, "replicas must be 0 to {}, got {}",
                     limits::kEndpointReplicas, *body.replicas)
        .with_param("replicas");
  const bool all_fixed = std::ranges::all_of(
      endpoint.deployments, [](const DeploymentSpec& deployment) { return deployment.replicas.has_value(); });
  if (body.replicas && all_fixed)
    throw make_error(ErrorCode::invalid_argument,
                     "replicas cannot be set for endpoint {}: its deployments have a fixed number each "
                     "(deployments[].replicas), which scaling does not change",
                     endpoint.name)
        .with_param("replicas");
  endpoint.scaled_to = body.replicas;
  endpoint.scaled_ms = call.now_ms;
}

DeploymentSpec& deployment_named(Endpoint& endpoint, const std::string& name) {
  if (name.empty() && endpoint.deployments.size() == 1) return endpoint.deployments.front();
  const auto found = std::ranges::find(endpoint.deployments, name, &DeploymentSpec::name);
  if (found != endpoint.deployments.end()) return *found;
  throw make_error(ErrorCode::invalid_argument, "deployment must name one of the endpoint's, got '{:.64}'",
                   name)
      .with_param("deployment");
}

// A verb after an endpoint's path.
template <HasFields Body>
ApiRoute action(const Tables& tables, std::string_view path, std::string_view summary,
                std::function<void(const ApiCall&, Transaction&, const Body&, Endpoint&)> act) {
  const auto handle = [collection = endpoint_collection(tables), act](ApiCall& call,
                                                                      Transaction& transaction) {
    Endpoint row = find_row(collection, call, transaction);
    check_conditions(call.http, row.etag);
    const Endpoint before = row;
    act(call, transaction, read_body<Body>(call), row);
    if (to_json(row) != to_json(before)) collection.rows.update(transaction, row);
    return show_row(collection, call, transaction, row);
  };
  return {.spec = {.method = Method::post,
                   .path = path,
                   .summary = summary,
                   .answer_schema = struct_schema_text<Endpoint>(endpoint_collection(tables).computed),
                   .body_schema = struct_schema_text<Body>()},
          .needs = Needs::user,
          .handle = handle};
}

std::vector<ApiRoute> actions(const Tables& tables) {
  const auto set_paused = [](bool paused) {
    return [paused](const ApiCall&, Transaction&, const NoBody&, Endpoint& row) { row.paused = paused; };
  };
  return {
      action<ScaleBody>(tables, "/api/v1/endpoints/{id}/scale", "set the number of replicas by hand",
                        [](const ApiCall& call, Transaction&, const ScaleBody& body, Endpoint& row) {
                          scale(call, body, row);
                        }),
      action<NoBody>(tables, "/api/v1/endpoints/{id}/pause", "stop all replicas; requests get a 503",
                     set_paused(true)),
      action<NoBody>(tables, "/api/v1/endpoints/{id}/resume", "end a pause", set_paused(false)),
      action<RollbackBody>(
          tables, "/api/v1/endpoints/{id}/rollback", "make a deployment what it was at an earlier revision",
          [&tables](const ApiCall&, Transaction& tx, const RollbackBody& body, Endpoint& row) {
            roll_back(tables, tx, row, deployment_named(row, body.deployment), body.revision);
          }),
  };
}

// A list of the endpoint's revisions, as any other list.
ApiRoute revisions(const Tables& tables) {
  const auto handle = [&tables](ApiCall& call, Transaction& transaction) {
    const Endpoint endpoint = find_row(endpoint_collection(tables), call, transaction);
    const Collection<Revision> of_endpoint{
        .path = "",
        .item_path = "",
        .noun = "revision",
        .rows = tables.revisions,
        .narrow = [&](ApiCall&, Transaction&) -> std::vector<store::Filter> {
          return {{.field = "endpoint", .value = endpoint.id}};
        }};
    return list_rows(of_endpoint, call, transaction);
  };
  return {.spec = {.method = Method::get,
                   .path = "/api/v1/endpoints/{id}/revisions",
                   .query = detail::list_parameters<Revision>(),
                   .summary = "what its deployments were",
                   .answer_schema = page_schema_text<Revision>()},
          .needs = Needs::viewer,
          .handle = handle};
}

}  // namespace

std::vector<ApiRoute> endpoint_api(const ApiServices& services) {
  std::vector<ApiRoute> routes = collection_routes(endpoint_collection(services.tables));
  for (ApiRoute& route : routes)
    if (!route.spec.body_schema.empty())
      route.prepare = [&services](ApiCall& call) { prepare(services, call); };
  for (ApiRoute& route : actions(services.tables)) routes.push_back(std::move(route));
  routes.push_back(revisions(services.tables));
  return routes;
}

}  // namespace neutrino::cloud
