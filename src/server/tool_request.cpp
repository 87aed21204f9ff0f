#include "server/tool_request.h"

#include <algorithm>
#include <set>

#include "base/limits.h"
#include "chat/tool_schema.h"
#include "net/schema.h"
#include "server/inference_request.h"

namespace neutrino::server {
namespace {

using net::find;

constexpr size_t kNameBytes = 64;

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytes && std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  });
}

const json::object& object_at(const json::object& object, std::string_view name, const std::string& path) {
  const auto* value = find(object, name);
  if (!value || !value->is_object()) throw invalid_field(path + " must be an object", path, "invalid_type");
  return value->get_object();
}

std::string_view string_at(const json::object& object, std::string_view name, const std::string& path) {
  const auto* value = find(object, name);
  if (!value) throw invalid_field(path + " is required", path, "missing_required_parameter");
  if (!value->is_string()) throw invalid_field(path + " must be of type string", path, "invalid_type");
  return value->get_string();
}

void check_function(const json::object& function, const std::string& path, std::set<std::string>& names) {
  const std::string name(string_at(function, "name", path + ".name"));
  if (!is_function_name(name))
    throw invalid_field(fmt::format("{}.name must be 1-{} letters, digits, '_', '-' and '.', got \"{:.80}\"",
                                    path, kNameBytes, name),
                        path + ".name");
  if (!names.insert(name).second)
    throw invalid_field(fmt::format("{}.name: there are two tools called {}", path, name), path + ".name");
  if (find(function, "description")) string_at(function, "description", path + ".description");
  if (const auto* strict = find(function, "strict"); strict && !strict->is_bool())
    throw invalid_field(path + ".strict must be of type boolean", path + ".strict", "invalid_type");
  chat::parameters_schema(function, path);
}

bool has_function(const json::array& tools, std::string_view name) {
  return std::ranges::any_of(tools, [&](const json::value& tool) {
    return std::string_view(tool.at("function").at("name").as_string()) == name;
  });
}

void read_named(const json::object& choice, chat::AnswerRules& rules) {
  if (string_at(choice, "type", "tool_choice.type") != "function")
    throw invalid_field("tool_choice.type must be \"function\"", "tool_choice.type", "unsupported_parameter");
  const std::string_view name =
      string_at(object_at(choice, "function", "tool_choice.function"), "name", "tool_choice.function.name");
  if (!has_function(rules.tools, name))
    throw invalid_field(fmt::format("tool_choice.function.name: there is no tool called \"{:.80}\"", name),
                        "tool_choice.function.name");
  rules.choice = chat::ToolChoice::required;
  rules.function = name;
}

}  // namespace

void check_tools(const json::array& tools) {
  if (static_cast<int64_t>(tools.size()) > limits::kTools)
    throw invalid_field(fmt::format("tools must hold at most {}, got {}", limits::kTools, tools.size()),
                        "tools");
  std::set<std::string> names;
  size_t index = 0;
  for (const json::value& tool : tools) {
    const std::string path = fmt::format("tools[{}]", index++);
    if (!tool.is_object()) throw invalid_field(path + " must be of type object", path, "invalid_type");
    if (string_at(tool.get_object(), "type", path + ".type") != "function")
      throw invalid_field(path + ".type must be \"function\"", path + ".type");
    check_function(object_at(tool.get_object(), "function", path + ".function"), path + ".function", names);
  }
}

chat::AnswerRules read_answer_rules(const json::object& body) {
  chat::AnswerRules rules;
  if (const auto* tools = find(body, "tools")) rules.tools = tools->get_array();
  if (const auto* parallel = find(body, "parallel_tool_calls")) rules.parallel = parallel->get_bool();
  rules.choice = rules.tools.empty() ? chat::ToolChoice::none : chat::ToolChoice::automatic;
  const auto* choice = find(body, "tool_choice");
  if (!choice) return rules;
  if (choice->is_object()) {
    read_named(choice->get_object(), rules);
    return rules;
  }
  const std::string_view name = choice->get_string();
  if (name == "none") {
    rules.choice = chat::ToolChoice::none;
  } else if (name == "required") {
    if (rules.tools.empty()) throw invalid_field("tool_choice \"required\" needs tools", "tool_choice");
    rules.choice = chat::ToolChoice::required;
  } else if (name != "auto") {
    throw invalid_field(
        fmt::format("tool_choice must be \"none\", \"auto\", \"required\" or a function, got \"{:.40}\"",
                    name),
        "tool_choice");
  }
  return rules;
}

chat::KnownTools known_tools(const chat::AnswerRules& rules) {
  chat::KnownTools known;
  for (const json::value& tool : rules.tools) {
    const json::object& function = tool.at("function").as_object();
    const std::string name(std::string_view(function.at("name").as_string()));
    if (rules.function.empty() || name == rules.function)
      known.parameters[name] = chat::parameters_schema(function, "tools");
  }
  return known;
}

}  // namespace neutrino::server
