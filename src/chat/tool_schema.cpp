#include "chat/tool_schema.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "chat/tool_syntax/tagged_values.h"

namespace neutrino::chat {
namespace {

Error unsupported(std::string path, std::string_view why) {
  return make_error(ErrorCode::invalid_argument, "{} {}", path, why)
      .with_reason("unsupported_schema_keyword")
      .with_param(std::move(path));
}

const json::value* member(const json::object& object, std::string_view name) {
  return object.if_contains(name);
}

bool is_annotation(std::string_view keyword) {
  constexpr std::string_view kAnnotations[] = {"title",       "description", "default",  "examples",
                                               "example",     "deprecated",  "readOnly", "writeOnly",
                                               "$comment",    "$schema",     "$id",      "x-guidance",
                                               "definitions", "$defs",       "strict"};
  return std::ranges::find(kAnnotations, keyword) != std::end(kAnnotations);
}

// Regular expressions for the formats of strings that stand without quotes.
struct TextFormat {
  std::string_view name, regex;
};
constexpr TextFormat kFormats[] = {
    {"date", R"([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]))"},
    {"time", R"(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+\-]([01][0-9]|2[0-3]):[0-5][0-9]))"},
    {"date-time",
     R"([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+\-]([01][0-9]|2[0-3]):[0-5][0-9]))"},
    {"uuid", R"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"},
    {"email",
     R"([a-zA-Z0-9_+\-]+(\.[a-zA-Z0-9_+\-]+)*@[a-zA-Z0-9]+(\-[a-zA-Z0-9]+)*(\.[a-zA-Z0-9]+(\-[a-zA-Z0-9]+)*)+)"},
    {"ipv4",
     R"((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3})"},
    {"uri", R"(https?:\/\/[a-zA-Z0-9.\-]+(:[0-9]{1,4})?(\/[a-zA-Z0-9._~%\-]*)*)"},
};

constexpr std::string_view kAnyText = R"((.|\n)*)";

int64_t count_of(const json::value& value, const std::string& path) {
  if (!value.is_number() || value.to_number<double>() < 0 || value.to_number<double>() > 1e9)
    throw unsupported(path, "must be a number from 0 to 1000000000");
  return static_cast<int64_t>(value.to_number<double>());
}

// A pattern is searched for, unless it is anchored.
std::string pattern_regex(std::string_view pattern) {
  const bool begins = pattern.starts_with('^');
  if (begins) pattern.remove_prefix(1);
  const bool ends = pattern.ends_with('$') && !pattern.ends_with("\\$");
  if (ends) pattern.remove_suffix(1);
  std::string regex;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '/') regex += '\\';
    if (pattern[i] == '\n')
      regex += "\\n";
    else
      regex += pattern[i];
    if (pattern[i] == '\\' && i + 1 < pattern.size()) regex += pattern[++i];
  }
  return fmt::format("{}({}){}", begins ? "" : kAnyText, regex, ends ? "" : kAnyText);
}

// The terminals whose intersection is the text of a string.
std::vector<std::string> text_regexes(const json::object& schema, const std::string& path) {
  std::vector<std::string> regexes;
  int64_t least = 0, most = -1;
  for (const auto& [key, value] : schema) {
    const std::string where = path + "." + std::string(key);
    if (is_annotation(key) || key == "type" || key == "enum" || key == "const") continue;
    if (key == "minLength") {
      least = count_of(value, where);
    } else if (key == "maxLength") {
      most = count_of(value, where);
    } else if (key == "pattern" && value.is_string()) {
      regexes.push_back(pattern_regex(value.get_string()));
    } else if (key == "format" && value.is_string()) {
      const auto format =
          std::ranges::find(kFormats, std::string_view(value.get_string()), &TextFormat::name);
      if (format == std::end(kFormats))
        throw unsupported(where, "is not supported in this model's tool calls");
      regexes.emplace_back(format->regex);
    } else {
      throw unsupported(where, "is not supported in this model's tool calls");
    }
  }
  if (least > 0 || most >= 0)
    regexes.push_back(most >= 0 ? fmt::format(R"((.|\n){{{},{}}})", least, most)
                                : fmt::format(R"((.|\n){{{},}})", least));
  if (regexes.empty()) regexes.emplace_back(kAnyText);
  return regexes;
}

class Rules {
 public:
  Rules(std::string name, const json::object& schema, const ParameterForm& form, const SpecialTokens& special,
        std::string path, SharedTexts& texts)
      : name_(std::move(name)),
        schema_(schema),
        form_(form),
        special_(special),
        path_(std::move(path)),
        texts_(texts) {
    check_keywords();
    read_properties();
  }

  std::string write() {
    const bool separated = !form_.between.empty();
    const size_t count = parameters_.size();
    text_ += fmt::format("{}: {}\n", name_, count == 0 ? "\"\"" : name_ + "_a0");
    for (size_t i = 0; i < count; ++i) {
      const bool last = i + 1 == count;
      const auto next = [&](char state) {
        return last ? std::string() : fmt::format(" {}_{}{}", name_, state, i + 1);
      };
      const auto skipped = [&](char state) { return last ? std::string(" \"\"") : next(state); };
      const bool required = parameters_[i].required;
      const std::string parameter = fmt::format("{}_p{}", name_, i);
      text_ += fmt::format("{}_a{}: {}{}{}\n", name_, i, parameter, next(separated ? 'b' : 'a'),
                           required ? "" : " |" + skipped('a'));
      if (separated && i > 0)
        text_ += fmt::format("{}_b{}: {} {}{}{}\n", name_, i, lark_string(form_.between), parameter,
                             next('b'), required ? "" : " |" + skipped('b'));
      write_parameter(parameter, parameters_[i]);
    }
    return std::move(text_);
  }

 private:
  struct Parameter {
    std::string key;
    json::object schema;
    bool required = false;
  };

  void check_keywords() {
    for (const auto& [key, value] : schema_) {
      const bool known = is_annotation(key) || key == "type" || key == "properties" || key == "required" ||
                         key == "additionalProperties";
      if (!known)
        throw unsupported(path_ + "." + std::string(key), "is not supported in this model's tool calls");
    }
  }

  void read_properties() {
    const auto* required = member(schema_, "required");
    const auto is_required = [&](std::string_view key) {
      return required != nullptr && required->is_array() &&
             std::ranges::any_of(required->get_array(), [&](const json::value& value) {
               return value.is_string() && std::string_view(value.get_string()) == key;
             });
    };
    const auto* properties = member(schema_, "properties");
    if (properties != nullptr && properties->is_object())
      for (const auto& [key, value] : properties->get_object()) add(key, value, is_required(key));
    if (required == nullptr || !required->is_array()) return;
    for (const json::value& key : required->get_array())
      if (key.is_string() &&
          std::ranges::find(parameters_, std::string(key.get_string()), &Parameter::key) == parameters_.end())
        add(key.get_string(), json::object(), true);
  }

  void add(std::string_view key, const json::value& value, bool required) {
    if (key.empty() || key.find_first_of("<>=,()\n") != std::string_view::npos)
      throw unsupported(path_ + ".properties." + std::string(key),
                        "has a name that this model's tool calls cannot have");
    Parameter parameter{std::string(key), value.is_object() ? value.get_object() : json::object(), required};
    for (const char* const shared : {"$defs", "definitions"})
      if (const auto* found = member(schema_, shared); found != nullptr && !parameter.schema.contains(shared))
        parameter.schema[shared] = *found;
    parameters_.push_back(std::move(parameter));
  }

  void write_parameter(const std::string& rule, const Parameter& parameter) {
    const std::string head =
        lark_sequence(fmt::format("{}{}{}", form_.before_key, parameter.key, form_.before_value), special_);
    if (form_.text_values && is_text_parameter(&schema_, parameter.key)) {
      write_text(rule, head, parameter);
      return;
    }
    const std::string tail = lark_sequence(form_.after_value, special_);
    text_ += fmt::format("{0}: {1} {0}_v{2}{3}\n{0}_v: {4}\n", rule, head, tail.empty() ? "" : " ", tail,
                         json_rule(parameter.schema));
  }

  // A string up to the tag behind it, which it cannot hold.
  void write_text(const std::string& rule, const std::string& head, const Parameter& parameter) {
    const std::string path = fmt::format("{}.properties.{}", path_, parameter.key);
    const std::string tail = lark_sequence(form_.after_value, special_);
    const auto* values = member(parameter.schema, "enum");
    const auto* constant = member(parameter.schema, "const");
    if (values != nullptr || constant != nullptr) {
      write_values(rule, head, tail, values, constant, path);
      return;
    }
    const std::vector<std::string> regexes = text_regexes(parameter.schema, path);
    const bool special = tail.starts_with("<[");
    const std::string close = special ? "" : regex_text(form_.after_value);
    std::string terminal;
    for (const std::string& regex : regexes)
      terminal += fmt::format("{}/({}){}/", terminal.empty() ? "" : " & ", regex, close);
    // A text that may end anywhere ends with the first closing tag; another one could have it inside.
    const bool anywhere =
        regexes.size() == 1 && (regexes[0] == kAnyText || regexes[0].starts_with("(.|\\n){0,"));
    if (special)
      terminal += fmt::format(" & ~/(.|\\n)*{}(.|\\n)*/", regex_text(form_.after_value));
    else if (!anywhere)
      terminal += fmt::format(" & ~/(.|\\n)*{}(.|\\n)+/", close);
    text_ += fmt::format("{}: {} {}{}{}\n", rule, head, shared_text(terminal, special), special ? " " : "",
                         special ? tail : "");
  }

  // Equal texts are one rule: the lexer looks at each of them.
  std::string shared_text(const std::string& terminal, bool special) {
    const auto [found, fresh] =
        texts_.try_emplace(terminal, fmt::format("{}_{}", special ? "TEXT" : "text", texts_.size()));
    if (fresh) text_ += fmt::format("{}{}: {}\n", found->second, special ? "" : "[lazy]", terminal);
    return found->second;
  }

  void write_values(const std::string& rule, const std::string& head, const std::string& tail,
                    const json::value* values, const json::value* constant, const std::string& path) {
    std::string alternatives;
    const auto add_value = [&](const json::value& value) {
      if (!value.is_string() ||
          std::string_view(value.get_string()).find(form_.after_value) != std::string_view::npos)
        return;
      const std::string text(value.get_string());
      alternatives += (alternatives.empty() ? "" : " | ") + (text.empty() ? "\"\"" : lark_string(text));
    };
    if (constant != nullptr) {
      add_value(*constant);
    } else if (values->is_array()) {
      for (const json::value& value : values->get_array()) add_value(value);
    }
    if (alternatives.empty())
      throw unsupported(path + ".enum", "holds no string that this model's tool calls can have");
    text_ += fmt::format("{}: {} ({}) {}\n", rule, head, alternatives, tail);
  }

  const std::string name_;
  const json::object& schema_;
  const ParameterForm& form_;
  const SpecialTokens& special_;
  const std::string path_;
  SharedTexts& texts_;
  std::vector<Parameter> parameters_;
  std::string text_;
};

}  // namespace

json::object parameters_schema(const json::object& function, const std::string& path) {
  const auto* parameters = member(function, "parameters");
  const std::string where = path + ".parameters";
  if (parameters == nullptr || parameters->is_null())
    return {{"type", "object"}, {"properties", json::object()}, {"additionalProperties", false}};
  if (!parameters->is_object())
    throw make_error(ErrorCode::invalid_argument, "{} must be an object", where)
        .with_reason("invalid_json_schema")
        .with_param(where);
  json::object schema = parameters->get_object();
  const auto* type = member(schema, "type");
  if (type == nullptr)
    schema["type"] = "object";
  else if (!type->is_string() || type->get_string() != "object")
    throw make_error(ErrorCode::invalid_argument, "{}.type must be \"object\"", where)
        .with_reason("invalid_json_schema")
        .with_param(where + ".type");
  return schema;
}

std::string parameter_rules(const std::string& name, const json::object& schema, const ParameterForm& form,
                            const SpecialTokens& special, const std::string& path, SharedTexts& texts) {
  return Rules(name, schema, form, special, path, texts).write();
}

std::string json_rule(json::object schema) { return "%json " + to_text(schema); }

}  // namespace neutrino::chat
