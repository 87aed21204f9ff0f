#include "server/constraint_fields.h"

#include <array>
#include <string_view>

#include "net/schema.h"
#include "server/inference_request.h"

namespace neutrino::server {
namespace {

using net::find;
using text::GrammarKind;
using text::GrammarSpec;

Error wrong_type(const std::string& path, std::string_view expected) {
  return invalid_field(fmt::format("{} must be {}", path, expected), path, "invalid_type");
}

// A schema comes as JSON, or as a text that holds it.
GrammarSpec read_schema(const json::value& value, const std::string& path) {
  if (!value.is_object() && !value.is_string() && !value.is_bool())
    throw wrong_type(path, "a JSON schema: an object, or a string that holds one");
  return {GrammarKind::json_schema, value.is_string() ? std::string(value.get_string()) : to_text(value),
          path};
}

std::string read_text(const json::value& value, const std::string& path) {
  if (!value.is_string()) throw wrong_type(path, "a string");
  if (value.get_string().empty()) throw invalid_field(path + " must not be empty", path);
  return std::string(value.get_string());
}

GrammarSpec read_regex(const json::value& value, const std::string& path) {
  return {GrammarKind::regex, read_text(value, path), path};
}

GrammarSpec read_choice(const json::value& value, const std::string& path) {
  if (!value.is_array()) throw wrong_type(path, "a list of strings");
  if (value.get_array().empty()) throw invalid_field(path + " must not be empty", path);
  for (size_t i = 0; i < value.get_array().size(); ++i)
    if (!value.get_array()[i].is_string()) throw wrong_type(fmt::format("{}[{}]", path, i), "a string");
  return {GrammarKind::choice, to_text(value), path};
}

// Rules of GBNF, and of the EBNF that SGLang takes, are written with ::=, those of Lark with a colon alone.
GrammarSpec read_grammar(const json::value& value, const std::string& path) {
  const std::string grammar = read_text(value, path);
  return {grammar.find("::=") == std::string::npos ? GrammarKind::lark : GrammarKind::gbnf, grammar, path};
}

GrammarSpec read_structural_tag(const json::value& value, const std::string& path) {
  if (!value.is_object() && !value.is_string())
    throw wrong_type(path, "an object, or a string that holds one");
  return {GrammarKind::structural_tag, value.is_string() ? std::string(value.get_string()) : to_text(value),
          path};
}

struct Reader {
  std::string_view name;
  GrammarSpec (*read)(const json::value& value, const std::string& path);
};

// Fields of the body itself.
constexpr auto kBodyReaders = std::to_array<Reader>({
    {"guided_json", read_schema},
    {"guided_regex", read_regex},
    {"guided_choice", read_choice},
    {"guided_grammar", read_grammar},
    {"json_schema", read_schema},
    {"regex", read_regex},
    {"ebnf", read_grammar},
    {"grammar", read_grammar},
});
// Fields of nvext and of structured_outputs.
constexpr auto kExtensionReaders = std::to_array<Reader>({
    {"guided_json", read_schema},
    {"guided_regex", read_regex},
    {"guided_choice", read_choice},
    {"guided_grammar", read_grammar},
});
constexpr auto kStructuredReaders = std::to_array<Reader>({
    {"json", read_schema},
    {"regex", read_regex},
    {"choice", read_choice},
    {"grammar", read_grammar},
    {"structural_tag", read_structural_tag},
});
// Collects constraints; a second one must be the first one again.
class Constraint {
 public:
  void add(GrammarSpec spec) {
    if (spec_ && !spec_->same_grammar(spec))
      throw invalid_field(fmt::format("{} and {} are different constraints on one answer; give one of them",
                                      spec_->param, spec.param),
                          spec.param);
    if (!spec_) spec_ = std::move(spec);
  }
  std::optional<GrammarSpec> take() { return std::move(spec_); }

 private:
  std::optional<GrammarSpec> spec_;
};

const Reader* find_reader(std::span<const Reader> readers, std::string_view name) {
  for (const Reader& reader : readers)
    if (reader.name == name) return &reader;
  return nullptr;
}

void refuse_member(const std::string& path) {
  throw invalid_field(path + " is not supported by this server", path, "unsupported_parameter");
}

void read_response_schema(const json::object& format, Constraint& constraint) {
  const std::string path = "response_format.json_schema";
  const auto* holder = find(format, "json_schema");
  if (!holder) throw invalid_field(path + " is required", path, "missing_required_parameter");
  if (!holder->is_object()) throw wrong_type(path, "an object");
  const json::object& object = holder->get_object();
  for (const char* text : {"name", "description"})
    if (const auto* value = find(object, text); value && !value->is_string())
      throw wrong_type(fmt::format("{}.{}", path, text), "a string");
  if (const auto* strict = find(object, "strict"); strict && !strict->is_bool())
    throw wrong_type(path + ".strict", "a boolean");
  const auto* schema = find(object, "schema");
  if (!schema)
    throw invalid_field(path + ".schema is required", path + ".schema", "missing_required_parameter");
  constraint.add(read_schema(*schema, path + ".schema"));
}

// A schema that the type does not read would be a constraint that is dropped.
void check_members(const json::object& format, std::string_view type) {
  constexpr std::pair<const char*, const char*> kOfType[] = {{"json_schema", "json_schema"},
                                                             {"schema", "json_object"}};
  for (const auto& [member, owner] : kOfType)
    if (type != owner && type != "structural_tag" && find(format, member)) {
      const std::string path = fmt::format("response_format.{}", member);
      throw invalid_field(fmt::format("{} is for the type {}, got the type {:.60}", path, owner, type), path);
    }
}

// llama-server takes a schema beside the type json_object; vLLM a whole structural tag in place of a format.
void read_response_format(const json::object& format, Constraint& constraint) {
  const auto* type = find(format, "type");
  if (!type)
    throw invalid_field("response_format.type is required", "response_format.type",
                        "missing_required_parameter");
  if (!type->is_string()) throw wrong_type("response_format.type", "a string");
  const std::string_view name = type->get_string();
  check_members(format, name);
  if (name == "text") return;
  if (name == "json_schema") return read_response_schema(format, constraint);
  if (name == "structural_tag") return constraint.add(read_structural_tag(format, "response_format"));
  if (name != "json_object")
    throw invalid_field(
        fmt::format(
            "response_format.type must be text, json_object, json_schema or structural_tag, got {:.60}",
            name),
        "response_format.type");
  if (const auto* schema = find(format, "schema"))
    constraint.add(read_schema(*schema, "response_format.schema"));
  else
    constraint.add({GrammarKind::json_object, "", "response_format"});
}

// An option that asks for what is done anyway.
bool asks_for_nothing(std::string_view name, const json::value& value) {
  constexpr std::string_view kOptions[] = {"json_object", "disable_fallback", "disable_any_whitespace",
                                           "disable_additional_properties", "whitespace_pattern"};
  const bool off = value.is_bool() && !value.get_bool();
  for (const std::string_view option : kOptions)
    if (name == option) return off || (name == "disable_fallback" && value.is_bool());
  return false;
}

void read_structured_outputs(const json::object& object, Constraint& constraint) {
  int given = 0;
  for (const auto& [key, value] : object) {
    if (value.is_null()) continue;
    const std::string path = fmt::format("structured_outputs.{:.60}", std::string_view(key));
    const Reader* const reader = find_reader(kStructuredReaders, key);
    if (!reader && asks_for_nothing(key, value)) continue;
    if (++given > 1 && (reader || key == "json_object"))
      throw invalid_field("structured_outputs must hold one constraint, got several", "structured_outputs");
    if (reader)
      constraint.add(reader->read(value, path));
    else if (key == "json_object" && value.is_bool())
      constraint.add({GrammarKind::json_object, "", path});
    else
      refuse_member(path);
  }
  if (given == 0)
    throw invalid_field(
        "structured_outputs must hold one of json, regex, choice, grammar, json_object and structural_tag",
        "structured_outputs");
}

void read_extensions(const json::object& object, Constraint& constraint) {
  for (const auto& [key, value] : object) {
    if (value.is_null()) continue;
    const std::string path = fmt::format("nvext.{:.60}", std::string_view(key));
    if (key == "max_thinking_tokens") continue;  // no constraint: server/reasoning_request.h
    const Reader* const reader = find_reader(kExtensionReaders, key);
    if (!reader) refuse_member(path);
    constraint.add(reader->read(value, path));
  }
}

}  // namespace

std::optional<text::GrammarSpec> read_constraint(const json::object& body) {
  Constraint constraint;
  if (const auto* format = find(body, "response_format"))
    read_response_format(format->get_object(), constraint);
  if (const auto* outputs = find(body, "structured_outputs"))
    read_structured_outputs(outputs->get_object(), constraint);
  for (const Reader& reader : kBodyReaders)
    if (const auto* value = find(body, reader.name))
      constraint.add(reader.read(*value, std::string(reader.name)));
  if (const auto* extensions = find(body, "nvext")) read_extensions(extensions->get_object(), constraint);
  return constraint.take();
}

}  // namespace neutrino::server
