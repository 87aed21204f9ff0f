#include "server/responses_request.h"

#include <algorithm>
#include <array>

#include "net/schema.h"
#include "server/foreign_body.h"
#include "server/nested_keys.h"
#include "server/request_fields.h"

namespace neutrino::server {
namespace {

using net::find;

// Items come back as answers had them: with ids and a status, and texts with what is empty in answers.
constexpr auto kKeys = std::to_array<ReadKeys>({
    {"input[]", "type role content id status call_id name arguments output summary encrypted_content"},
    {"input[].content[]", "type text refusal annotations logprobs"},
    {"input[].output[]", "type text refusal"},
    {"tools[]", "type name description parameters strict"},
    {"tool_choice", "type name"},
    {"text.format", "type name description schema strict"},
});

// Items of the conversation to chat messages. What an assistant thinks, says and calls in a row is one message.
class InputTranslator {
 public:
  explicit InputTranslator(json::array& messages) : messages_(messages) {}
  void add(const json::value& value, const std::string& path);
  void flush();

 private:
  void add_message(const json::object& item, const std::string& path);
  void add_call(const json::object& item, const std::string& path);
  void add_output(const json::object& item, const std::string& path);
  void add_reasoning(const json::object& item, const std::string& path);

  json::array& messages_;
  json::object assistant_;  // being put together
};

void InputTranslator::flush() {
  if (assistant_.empty()) return;
  const bool answer = assistant_.contains("content") || assistant_.contains("tool_calls");
  if (answer) {
    assistant_["role"] = "assistant";
    messages_.push_back(std::move(assistant_));
  }
  assistant_ = {};
}

// A string, or parts of which each must be text.
json::value message_content(const json::value& content, const std::string& path) {
  if (content.is_string()) return content;
  json::array parts;
  for (const json::value& value : array_at(content, path)) {
    const std::string where = fmt::format("{}[{}]", path, parts.size());
    const json::object& part = object_at(value, where);
    const std::string type = type_at(part, where);
    if (type == "refusal")
      parts.push_back(text_part(text_at(part, "refusal", where)));
    else if (type == "input_text" || type == "output_text" || type == "text")
      parts.push_back(text_part(text_at(part, "text", where)));
    else
      throw unsupported_type(where + ".type", type,
                             "\"input_text\" or \"output_text\" (this model takes text alone)");
  }
  return parts;
}

const json::value& required_at(const json::object& item, std::string_view name, const std::string& path) {
  const auto* value = find(item, name);
  const std::string where = path + "." + std::string(name);
  if (!value) throw invalid_field(where + " is required", where, "missing_required_parameter");
  return *value;
}

void InputTranslator::add_message(const json::object& item, const std::string& path) {
  static constexpr std::array<std::string_view, 4> kRoles = {"user", "assistant", "system", "developer"};
  const std::string role = text_at(item, "role", path);
  if (std::ranges::find(kRoles, role) == kRoles.end())
    throw invalid_field(
        fmt::format("{}.role must be user, assistant, system or developer, got \"{:.40}\"", path, role),
        path + ".role");
  json::value content = message_content(required_at(item, "content", path), path + ".content");
  if (role != "assistant") {
    flush();
    messages_.push_back(json::object{{"role", role}, {"content", std::move(content)}});
    return;
  }
  if (assistant_.contains("content") || assistant_.contains("tool_calls")) flush();
  assistant_["content"] = std::move(content);
}

void InputTranslator::add_call(const json::object& item, const std::string& path) {
  json::object function{{"name", text_at(item, "name", path)},
                        {"arguments", text_at(item, "arguments", path)}};
  json::object call{
      {"id", text_at(item, "call_id", path)}, {"type", "function"}, {"function", std::move(function)}};
  if (!assistant_.contains("tool_calls")) assistant_["tool_calls"] = json::array();
  assistant_["tool_calls"].as_array().push_back(std::move(call));
}

void InputTranslator::add_output(const json::object& item, const std::string& path) {
  flush();
  messages_.push_back(
      json::object{{"role", "tool"},
                   {"tool_call_id", text_at(item, "call_id", path)},
                   {"content", message_content(required_at(item, "output", path), path + ".output")}});
}

void InputTranslator::add_reasoning(const json::object& item, const std::string& path) {
  if (assistant_.contains("content") || assistant_.contains("tool_calls")) flush();
  std::string text;
  if (const auto* content = find(item, "content"))
    for (const json::value& value : array_at(*content, path + ".content"))
      text += text_at(object_at(value, path + ".content"), "text", path + ".content");
  if (!text.empty()) assistant_["reasoning_content"] = std::move(text);
}

void InputTranslator::add(const json::value& value, const std::string& path) {
  const json::object& item = object_at(value, path);
  const std::string type = find(item, "type") ? type_at(item, path) : "message";
  if (type == "message") return add_message(item, path);
  if (type == "function_call") return add_call(item, path);
  if (type == "function_call_output") return add_output(item, path);
  if (type == "reasoning") return add_reasoning(item, path);
  throw unsupported_type(path + ".type", type,
                         "\"message\", \"function_call\", \"function_call_output\" or \"reasoning\"");
}

json::array read_messages(const json::object& body) {
  json::array messages;
  if (const auto* instructions = find(body, "instructions"))
    messages.push_back(json::object{{"role", "system"}, {"content", *instructions}});
  const json::value& input = body.at("input");
  if (input.is_string()) {
    messages.push_back(json::object{{"role", "user"}, {"content", input}});
    return messages;
  }
  if (input.get_array().empty()) throw invalid_field("input must not be empty", "input");
  InputTranslator translator(messages);
  size_t index = 0;
  for (const json::value& item : input.get_array()) translator.add(item, fmt::format("input[{}]", index++));
  translator.flush();
  return messages;
}

json::array read_tools(const json::array& tools) {
  json::array result;
  for (const json::value& value : tools) {
    const std::string path = fmt::format("tools[{}]", result.size());
    const json::object& tool = object_at(value, path);
    if (const std::string type = type_at(tool, path); type != "function")
      throw unsupported_type(path + ".type", type,
                             "\"function\" (tools that the server itself runs are not supported)");
    json::object function{{"name", text_at(tool, "name", path)}};
    copy_fields(tool, function,
                {{"description", "description"}, {"parameters", "parameters"}, {"strict", "strict"}});
    result.push_back(json::object{{"type", "function"}, {"function", std::move(function)}});
  }
  return result;
}

void read_tool_choice(const json::value& choice, json::object& chat) {
  if (choice.is_string()) {
    chat["tool_choice"] = choice;
    return;
  }
  const json::object& object = object_at(choice, "tool_choice");
  if (const std::string type = type_at(object, "tool_choice"); type != "function")
    throw unsupported_type("tool_choice.type", type, "\"function\"");
  chat["tool_choice"] = {{"type", "function"},
                         {"function", {{"name", text_at(object, "name", "tool_choice")}}}};
}

void read_format(const json::value& value, json::object& chat) {
  const std::string path = "text.format";
  const json::object& format = object_at(value, path);
  const std::string type = type_at(format, path);
  if (type == "text") return;
  if (type == "json_object") {
    chat["response_format"] = {{"type", "json_object"}};
    return;
  }
  if (type != "json_schema")
    throw unsupported_type(path + ".type", type, "\"text\", \"json_object\" or \"json_schema\"");
  json::object schema{{"name", text_at(format, "name", path)},
                      {"schema", required_at(format, "schema", path)}};
  copy_fields(format, schema, {{"strict", "strict"}, {"description", "description"}});
  chat["response_format"] = {{"type", "json_schema"}, {"json_schema", std::move(schema)}};
}

void read_text(const json::object& text, json::object& chat) {
  for (const auto& [key, value] : text) {
    if (value.is_null()) continue;
    if (key == "format")
      read_format(value, chat);
    else if (key != "verbosity" || value != "medium")
      throw invalid_field(fmt::format("text.{:.40} is not supported by this server", std::string_view(key)),
                          fmt::format("text.{:.40}", std::string_view(key)), "unsupported_parameter");
  }
}

// A summary of the reasoning is not made: the reasoning itself is in the answer.
void read_reasoning(const json::object& reasoning, ResponsesBody& result) {
  for (const auto& [key, value] : reasoning) {
    const std::string path = fmt::format("reasoning.{:.40}", std::string_view(key));
    if (value.is_null()) continue;
    if (key == "effort")
      result.chat["reasoning_effort"] = value;
    else if (key == "summary" || key == "generate_summary")
      result.ignored.push_back(path);
    else
      throw invalid_field(path + " is not supported by this server", path, "unsupported_parameter");
  }
}

void read_include(const json::array& include, ResponsesBody& result) {
  for (const json::value& value : include) {
    if (value != "reasoning.encrypted_content")
      throw invalid_field(
          fmt::format("include must hold nothing but \"reasoning.encrypted_content\", got {:.80}",
                      to_text(value)),
          "include", "unsupported_parameter");
    result.ignored.emplace_back("include");
  }
}

void refuse_stored_state(const json::object& body) {
  for (const std::string_view name : {"previous_response_id", "conversation"})
    if (find(body, name))
      throw make_error(
          ErrorCode::not_found,
          "{} names stored state, and this server stores none; send the whole conversation in input", name)
          .with_reason("not_stored_here")
          .with_param(std::string(name));
}

json::object make_echo(const json::object& body) {
  json::object echo;
  const auto repeat = [&](std::string_view name, json::value otherwise) {
    const auto* value = find(body, name);
    echo[name] = value ? *value : std::move(otherwise);
  };
  repeat("instructions", nullptr);
  repeat("max_output_tokens", nullptr);
  repeat("metadata", json::object());
  repeat("parallel_tool_calls", true);
  repeat("temperature", nullptr);
  repeat("top_p", nullptr);
  repeat("tool_choice", "auto");
  repeat("tools", json::array());
  repeat("text", json::object{{"format", {{"type", "text"}}}});
  repeat("reasoning", json::object{{"effort", nullptr}, {"summary", nullptr}});
  repeat("user", nullptr);
  return echo;
}

}  // namespace

ResponsesBody parse_responses_body(std::string_view text) {
  ResponsesBody result;
  const json::object body = net::parse_body(text, kResponsesFields, result.ignored);
  refuse_stored_state(body);
  json::object& chat = result.chat;
  copy_fields(body, chat,
              {{"model", "model"},
               {"max_output_tokens", "max_tokens"},
               {"temperature", "temperature"},
               {"top_p", "top_p"},
               {"stream", "stream"},
               {"seed", "seed"},
               {"cache_salt", "cache_salt"},
               {"parallel_tool_calls", "parallel_tool_calls"}});
  chat["messages"] = read_messages(body);
  note_unread_keys(body, kKeys, result.ignored);
  if (const auto* tools = find(body, "tools"); tools && !tools->get_array().empty()) {
    chat["tools"] = read_tools(tools->get_array());
  } else {
    chat.erase("parallel_tool_calls");
  }
  if (const auto* choice = find(body, "tool_choice")) read_tool_choice(*choice, chat);
  if (const auto* format = find(body, "text")) read_text(format->get_object(), chat);
  if (const auto* reasoning = find(body, "reasoning")) read_reasoning(reasoning->get_object(), result);
  if (const auto* include = find(body, "include")) read_include(include->get_array(), result);
  result.echo = make_echo(body);
  return result;
}

}  // namespace neutrino::server
