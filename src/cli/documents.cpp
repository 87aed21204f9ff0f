#include "cli/documents.h"

#include <algorithm>

#include "base/error.h"
#include "cloud/api/object_json.h"
#include "cloud/schema.h"

namespace neutrino::cli {
namespace {

// A secret as it is written: the API keeps its value and never shows it.
struct SecretFields {
  std::string name;
  std::string value;
  static constexpr auto fields() {
    return std::tuple(field("name", &SecretFields::name), field("value", &SecretFields::value));
  }
};

template <HasFields T>
json::object complete(const json::value& fields) {
  T row;
  read_json(row, fields, Accept::from_client);
  return cloud::writable_json(row);
}

template <HasFields T>
json::object writable(const json::value& shown) {
  T row;
  read_json(row, shown, Accept::from_storage);
  return cloud::writable_json(row);
}

template <HasFields T>
constexpr DocumentKind kind_of(std::string_view name, std::string_view collection,
                               std::string_view key = "name") {
  return {
      .name = name, .collection = collection, .key = key, .complete = complete<T>, .writable = writable<T>};
}

constexpr DocumentKind key_kind() {
  DocumentKind kind = kind_of<cloud::KeyRow>("Key", "keys");
  kind.has_put = false;
  return kind;
}

constexpr DocumentKind kKinds[] = {
    kind_of<cloud::Shape>("Shape", "shapes"),
    kind_of<cloud::NodeGroup>("NodeGroup", "node-groups"),
    kind_of<cloud::Price>("Price", "prices", "model"),
    kind_of<cloud::Member>("Member", "members", "email"),
    kind_of<SecretFields>("Secret", "secrets"),
    kind_of<cloud::Endpoint>("Endpoint", "endpoints"),
    key_kind(),
    kind_of<cloud::Budget>("Budget", "budgets"),
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}

std::string kind_names() {
  std::string names;
  for (const DocumentKind& kind : kKinds) names += (names.empty() ? "" : ", ") + std::string(kind.name);
  return names;
}

[[noreturn]] void fail_at(const std::string& place, const std::string& what) {
  throw Error(ErrorCode::invalid_argument, place + what);
}

std::string required_text(const YamlDocument& document, std::string_view key, const std::string& file) {
  const std::string here = place_text(file, document.position_of(key));
  const json::value* value = document.value.get_object().if_contains(key);
  if (!value) fail_at(here, fmt::format("the document needs a {}", key));
  if (!value->is_string() || value->get_string().empty())
    fail_at(here, fmt::format("{} must be a text, got {}", key, to_text(*value)));
  return std::string(value->get_string());
}

Document read_document(YamlDocument source, const std::string& file) {
  if (!source.value.is_object())
    fail_at(place_text(file, source.position_of("")), "a document must be fields, `kind` first");
  Document document{.file = file};
  const std::string kind = required_text(source, "kind", file);
  try {
    document.kind = &find_kind(kind);
  } catch (const Error& error) {
    fail_at(place_text(file, source.position_of("kind")), error.message());
  }
  document.name = required_text(source, document.kind->key, file);
  document.place = place_text(file, source.position_of(""));
  document.fields = source.value.get_object();
  document.fields.erase("kind");
  document.source = std::move(source);
  try {
    document.kind->complete(document.fields);
  } catch (const Error& error) {
    throw placed(error, document);
  }
  return document;
}

void refuse_twins(const std::vector<Document>& documents) {
  for (size_t i = 0; i < documents.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (documents[i].kind == documents[j].kind && documents[i].name == documents[j].name)
        fail_at(documents[i].place,
                fmt::format("{} {} is there twice", documents[i].kind->name, documents[i].name));
}

// Without the members that `defaults` has, too, with the same value.
json::object without_defaults(const json::object& object, const json::object& defaults);

json::value shortened(const json::value& value, const json::value* defaults) {
  if (value.is_object() && defaults && defaults->is_object())
    return without_defaults(value.get_object(), defaults->get_object());
  return value;
}

json::object without_defaults(const json::object& object, const json::object& defaults) {
  json::object result;
  for (const auto& [key, value] : object) {
    const json::value* usual = defaults.if_contains(key);
    if (usual && *usual == value) continue;
    result.emplace(key, shortened(value, usual));
  }
  return result;
}

// Deployments, their variables and windows are lists of structs, whose defaults are those of one with nothing said.
void shorten_deployments(json::object& document) {
  json::value* deployments = document.if_contains("deployments");
  if (!deployments || !deployments->is_array()) return;
  const json::object usual = cloud::writable_json(cloud::DeploymentSpec{});
  for (json::value& deployment : deployments->get_array()) {
    json::object kept = without_defaults(deployment.as_object(), usual);
    if (json::value* variables = kept.if_contains("environment"))
      for (json::value& variable : variables->as_array())
        variable = without_defaults(variable.as_object(), cloud::writable_json(cloud::EnvironmentVariable{}));
    json::object named{{"name", deployment.as_object().at("name")}};
    for (auto& [key, value] : kept) named.emplace(key, value);
    deployment = std::move(named);
  }
}

}  // namespace

std::span<const DocumentKind> document_kinds() { return kKinds; }

const DocumentKind& find_kind(std::string_view name) {
  for (const DocumentKind& kind : kKinds)
    if (lower(kind.name) == lower(name) || kind.collection == lower(name)) return kind;
  throw make_error(ErrorCode::invalid_argument, "kind must be one of {}, got \"{}\"", kind_names(), name);
}

std::vector<Document> read_documents(const std::string& text, const std::string& file) {
  std::vector<Document> documents;
  for (YamlDocument& source : parse_yaml(text, file))
    documents.push_back(read_document(std::move(source), file));
  refuse_twins(documents);
  return documents;
}

Error placed(const Error& error, const Document& document) {
  const std::string place = place_text(document.file, document.source.position_of(error.param()));
  return Error(error.code(), place + error.message()).with_reason(error.reason()).with_param(error.param());
}

json::object to_document(const DocumentKind& kind, const json::value& shown) {
  json::object document{{"kind", kind.name}};
  const json::object all = kind.writable(shown);
  for (auto& [key, value] : without_defaults(all, kind.complete(json::object{})))
    document.emplace(key, value);
  if (!document.contains(kind.key)) document[kind.key] = all.at(kind.key);
  shorten_deployments(document);
  return document;
}

}  // namespace neutrino::cli
