// How a collection's routes work; included by collection.h.
#pragma once

#include <array>
#include <utility>

#include "cloud/api/collection.h"

namespace neutrino::cloud {
namespace detail {

template <HasFields T>
bool belongs_to(const T& row, const Caller& caller) {
  const std::string* workspace = field_named<std::string>(row, "workspace");
  return !workspace || *workspace == caller.workspace;
}

template <HasFields T>
Error no_such(const Collection<T>& collection, std::string_view id) {
  return make_error(ErrorCode::not_found, "there is no {} '{:.200}'", collection.noun, id);
}

template <HasFields T>
bool is_seen(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction, const T& row) {
  return belongs_to(row, call.caller) && (!collection.sees || collection.sees(call, transaction, row));
}

// Has its key a name of its own beside it?
template <HasFields T>
bool has_name(const Collection<T>& collection) {
  return has_field<T>(collection.name_field) && key_field<T>() != collection.name_field;
}

template <HasFields T>
std::vector<store::Filter> own_workspace(const ApiCall& call) {
  if constexpr (has_field<T>("workspace"))
    return {{.field = "workspace", .value = call.caller.workspace}};
  else
    return {};
}

template <HasFields T>
std::optional<T> by_name(const Collection<T>& collection, const ApiCall& call,
                         store::Transaction& transaction, const std::string& name) {
  if (!has_name(collection)) return std::nullopt;
  std::vector<store::Filter> filters = own_workspace<T>(call);
  filters.push_back({.field = std::string(collection.name_field), .value = name});
  auto page = collection.rows.list(transaction, {.filters = std::move(filters), .limit = 1});
  if (page.rows.empty()) return std::nullopt;
  return std::move(page.rows.front());
}

// The caller's row with that key, else the one with that name, else another's with that key.
template <HasFields T>
std::optional<T> lookup(const Collection<T>& collection, const ApiCall& call, store::Transaction& transaction,
                        const std::string& id) {
  if (!store::is_storable_text(id)) return std::nullopt;
  std::optional<T> row = collection.rows.find(transaction, id);
  if (row && belongs_to(*row, call.caller)) return row;
  std::optional<T> named = by_name(collection, call, transaction, id);
  return named ? std::move(named) : std::move(row);
}

// ---- lists

template <HasFields T>
bool is_filterable(std::string_view name) {
  bool found = false;
  for_each_field<T>([&](const auto& f) {
    found = found || (f.name == name && !f.options.secret && !f.options.not_stored);
  });
  return found;
}

struct Suffix {
  std::string_view text;
  store::Compare compare;
};
inline constexpr std::array<Suffix, 3> kSuffixes{{{".prefix", store::Compare::prefix},
                                                  {".min", store::Compare::greater_or_equal},
                                                  {".max", store::Compare::less_or_equal}}};

template <HasFields T>
store::Filter filter_from(const store::Table<T>& rows, const std::string& name, const std::string& text) {
  std::string_view field = name;
  store::Compare compare = store::Compare::equal;
  for (const Suffix& suffix : kSuffixes)
    if (field.ends_with(suffix.text)) {
      field.remove_suffix(suffix.text.size());
      compare = suffix.compare;
      break;
    }
  if (!is_filterable<T>(field))
    throw make_error(ErrorCode::invalid_argument, "{} is not a parameter of this route", name)
        .with_param(name);
  store::Value value = rows.value_from_text(field, text);
  if (compare == store::Compare::prefix && !std::holds_alternative<std::string>(value))
    throw make_error(ErrorCode::invalid_argument, "{} has no prefix: it is not a text", field)
        .with_param(name);
  return {.field = std::string(field), .compare = compare, .value = std::move(value)};
}

template <HasFields T>
store::ListQuery list_query(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  store::ListQuery query{.filters = own_workspace<T>(call),
                         .order_by = query_text(call.query, "order_by"),
                         .limit = query_integer(call.query, "limit", 100, 1, limits::kStorePageRows),
                         .after = query_text(call.query, "after")};
  if (query_flag(call.query, "descending")) query.direction = store::Direction::descending;
  if (!query.order_by.empty() && !is_filterable<T>(query.order_by))
    throw make_error(ErrorCode::invalid_argument, "order_by must name a field, got '{:.64}'", query.order_by)
        .with_param("order_by");
  for (const auto& [name, text] : call.query)
    if (name != "limit" && name != "after" && name != "order_by" && name != "descending" && name != "fields")
      query.filters.push_back(filter_from(collection.rows, name, text));
  if (collection.narrow)
    for (store::Filter& filter : collection.narrow(call, transaction))
      query.filters.push_back(std::move(filter));
  return query;
}

// `fields=a,b` of the query. Throws for one that these objects do not have.
template <HasFields T>
std::vector<std::string> selection(const Collection<T>& collection, const ApiCall& call) {
  std::vector<std::string> names = query_list(call.query, "fields");
  for (const std::string& name : names) {
    bool known = collection.computed.contains(name);
    for_each_field<T>([&](const auto& f) { known = known || (f.name == name && !f.options.secret); });
    if (!known)
      throw make_error(ErrorCode::invalid_argument, "fields must name fields, got '{:.64}'", name)
          .with_param("fields");
  }
  return names;
}

template <HasFields T>
std::vector<json::object> shown(const Collection<T>& collection, ApiCall& call,
                                store::Transaction& transaction, const std::vector<T>& rows) {
  std::vector<json::object> objects;
  objects.reserve(rows.size());
  for (const T& row : rows) objects.push_back(to_json(row));
  if (collection.show) collection.show(call, transaction, rows, objects);
  return objects;
}

// ---- writing

template <HasFields T>
json::value body_of(const Collection<T>& collection, const ApiCall& call) {
  if (!call.body.is_object())
    throw make_error(ErrorCode::invalid_argument, "a JSON object is expected as the body: the {}",
                     collection.noun)
        .with_reason("invalid_body");
  json::value body = call.body;
  for (const auto& member : collection.computed) body.get_object().erase(member.key());
  return body;
}

template <HasFields T>
void check_name_is_free(const Collection<T>& collection, const ApiCall& call, store::Transaction& transaction,
                        const T& row) {
  if (!has_name(collection)) return;
  const std::string* name = field_named<std::string>(row, collection.name_field);
  const std::string* id = field_named<std::string>(row, key_field<T>());
  const auto other = name ? by_name(collection, call, transaction, *name) : std::nullopt;
  if (!other || *field_named<std::string>(*other, key_field<T>()) == *id) return;
  throw make_error(ErrorCode::already_exists, "there is a {} '{}' already", collection.noun, *name)
      .with_param(std::string(collection.name_field));
}

// A row of the caller's workspace, made now, under an id of its own.
template <HasFields T>
T new_row(const Collection<T>& collection, const ApiCall& call, json::value& body) {
  T row;
  if (auto* workspace = field_named<std::string>(row, "workspace")) *workspace = call.caller.workspace;
  if (auto* created = field_named<int64_t>(row, "created_ms")) *created = call.now_ms;
  read_json(row, body, Accept::from_client);
  if (auto* id = field_named<std::string>(row, "id"))
    *id = collection.make_id ? collection.make_id(row) : new_id(collection.noun);
  return row;
}

template <HasFields T>
ApiAnswer insert_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction, T row) {
  if (collection.check) collection.check(call, transaction, row, nullptr);
  check_name_is_free(collection, call, transaction, row);
  const std::string key = *field_named<std::string>(row, key_field<T>());
  if (collection.rows.find(transaction, key))
    throw make_error(ErrorCode::already_exists, "there is a {} '{}' already", collection.noun, key)
        .with_param(std::string(key_field<T>()));
  collection.rows.insert(transaction, row);
  if (collection.written) collection.written(call, transaction, row);
  ApiAnswer answer = show_row(collection, call, transaction, row);
  answer.status = 201;
  if (collection.created) collection.created(call, row, answer.body.get_object());
  answer.headers.push_back({"Location", fmt::format("{}/{}", collection.path, net::percent_encode(key))});
  return answer;
}

template <HasFields T>
std::optional<int64_t> etag_of(const T& row) {
  const int64_t* etag = field_named<int64_t>(row, "etag");
  return etag ? std::optional(*etag) : std::nullopt;
}

template <HasFields T>
ApiAnswer put_new_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  check_conditions(call.http, std::nullopt);
  const std::string name(has_name(collection) ? collection.name_field : key_field<T>());
  json::value body = body_of(collection, call);
  const json::value* brought = body.get_object().if_contains(name);
  if (brought && *brought != json::value(call.id()))
    throw make_error(ErrorCode::invalid_argument, "{} must be '{}', as in the path, or absent", name,
                     call.id())
        .with_param(name);
  body.get_object()[name] = call.id();
  return insert_row(collection, call, transaction, new_row(collection, call, body));
}

template <HasFields T>
ApiRoute route(net::Method method, std::string_view path, Needs needs, std::string summary,
               std::function<ApiAnswer(ApiCall&, store::Transaction&)> handle) {
  return {.spec = {.method = method, .path = path, .summary = keep_text(std::move(summary))},
          .needs = needs,
          .handle = std::move(handle)};
}

template <HasFields T>
std::string_view list_parameters() {
  json::array parameters;
  const auto add = [&](std::string_view name, json::object schema, std::string_view description) {
    parameters.push_back(json::object{{"name", name},
                                      {"in", "query"},
                                      {"required", false},
                                      {"description", description},
                                      {"schema", std::move(schema)}});
  };
  add("limit", {{"type", "integer"}, {"minimum", 1}, {"maximum", limits::kStorePageRows}, {"default", 100}},
      "");
  add("after", {{"type", "string"}}, "`next` of the page before");
  add("order_by", {{"type", "string"}}, "a field; absent: the key");
  add("descending", {{"type", "boolean"}}, "");
  add("fields", {{"type", "string"}}, "names of the fields to show, parted by commas");
  for_each_field<T>([&](const auto& f) {
    using Type = typename std::remove_cvref_t<decltype(f)>::Type;
    constexpr store::ColumnKind kind = store::column_kind<Type>();
    if (f.options.secret || f.options.not_stored || kind == store::ColumnKind::json) return;
    add(f.name, value_schema<Type>(), "only those with this value; also with .prefix, .min, .max");
  });
  return keep_text(to_text(parameters));
}

}  // namespace detail

template <HasFields T>
T find_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  const std::string id(call.id());
  std::optional<T> row = detail::lookup(collection, call, transaction, id);
  if (!row || !detail::is_seen(collection, call, transaction, *row)) throw detail::no_such(collection, id);
  return *std::move(row);
}

template <HasFields T>
ApiAnswer show_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction,
                   const T& row) {
  return {.body = std::move(detail::shown(collection, call, transaction, std::vector<T>{row}).front())};
}

template <HasFields T>
ApiAnswer write_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction, T row,
                    const T& before) {
  check_immutable(row, before);
  if (collection.check) collection.check(call, transaction, row, &before);
  if (to_json(row, Show::all_fields) == to_json(before, Show::all_fields))
    return show_row(collection, call, transaction, before);
  detail::check_name_is_free(collection, call, transaction, row);
  collection.rows.update(transaction, row);
  if (collection.written) collection.written(call, transaction, row);
  return show_row(collection, call, transaction, row);
}

template <HasFields T>
ApiAnswer list_rows(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  const std::vector<std::string> names = detail::selection(collection, call);
  const store::Page<T> page =
      collection.rows.list(transaction, detail::list_query(collection, call, transaction));
  json::array items;
  for (const json::object& object : detail::shown(collection, call, transaction, page.rows))
    items.push_back(select_members(object, names));
  return {.body = json::object{
              {"items", std::move(items)}, {"next", page.next}, {"seq", store::last_change(transaction)}}};
}

template <HasFields T>
ApiAnswer create_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  json::value body = detail::body_of(collection, call);
  return detail::insert_row(collection, call, transaction, detail::new_row(collection, call, body));
}

template <HasFields T>
ApiAnswer put_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  const auto before = detail::lookup(collection, call, transaction, std::string(call.id()));
  if (!before) return detail::put_new_row(collection, call, transaction);
  if (!detail::is_seen(collection, call, transaction, *before)) throw detail::no_such(collection, call.id());
  check_conditions(call.http, detail::etag_of(*before));
  json::value body = detail::body_of(collection, call);
  drop_what_is_so(body, *before);
  T row = fixed_part(*before);
  read_json(row, body, Accept::from_client);
  return write_row(collection, call, transaction, std::move(row), *before);
}

template <HasFields T>
ApiAnswer patch_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  const T before = find_row(collection, call, transaction);
  check_conditions(call.http, detail::etag_of(before));
  json::value patch = detail::body_of(collection, call);
  drop_what_is_so(patch, before);
  json::value merged = writable_json(before);
  merge_patch(merged, patch);
  T row = fixed_part(before);
  read_json(row, merged, Accept::from_client);
  return write_row(collection, call, transaction, std::move(row), before);
}

template <HasFields T>
ApiAnswer erase_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction) {
  const T row = find_row(collection, call, transaction);
  check_conditions(call.http, detail::etag_of(row));
  if (collection.before_erase) collection.before_erase(call, transaction, row);
  collection.rows.erase(transaction, row);
  return {.status = 204};
}

template <HasFields T>
std::vector<ApiRoute> collection_routes(const Collection<T>& c) {
  using net::Method;
  std::vector<ApiRoute> routes;
  const std::string noun(c.noun);
  const std::string_view object = struct_schema_text<T>(c.computed);
  const auto add = [&](Method method, std::string_view path, Needs needs, std::string_view verb,
                       auto handler) {
    routes.push_back(detail::route<T>(method, path, needs, std::string(verb) + " " + noun,
                                      [c, handler](ApiCall& call, store::Transaction& transaction) {
                                        return handler(c, call, transaction);
                                      }));
    routes.back().spec.answer_schema = object;
    if (method == Method::post || method == Method::put || method == Method::patch)
      routes.back().spec.body_schema = object;
  };
  add(Method::get, c.path, c.read, "all of kind:", list_rows<T>);
  routes.back().spec.answer_schema = page_schema_text<T>(c.computed);
  routes.back().spec.query = detail::list_parameters<T>();
  if (c.verbs.create) {
    add(Method::post, c.path, c.write, "make a", create_row<T>);
    routes.back().answer_status = 201;
  }
  if (c.verbs.get)
    add(Method::get, c.item_path, c.read, "one",
        [](const Collection<T>& of, ApiCall& call, store::Transaction& transaction) {
          allow_only(call.query, {"fields"});
          const std::vector<std::string> names = detail::selection(of, call);
          ApiAnswer answer = show_row(of, call, transaction, find_row(of, call, transaction));
          if (!names.empty()) answer.body = select_members(answer.body.get_object(), names);
          return answer;
        });
  if (c.verbs.put) add(Method::put, c.item_path, c.write, "make or replace a", put_row<T>);
  if (c.verbs.patch) add(Method::patch, c.item_path, c.write, "change (RFC 7396) a", patch_row<T>);
  if (c.verbs.erase) {
    add(Method::delete_, c.item_path, c.write, "delete a", erase_row<T>);
    routes.back().answer_status = 204;
  }
  return routes;
}

}  // namespace neutrino::cloud
