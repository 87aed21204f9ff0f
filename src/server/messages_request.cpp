#include "server/messages_request.h"

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "net/schema.h"
#include "server/foreign_body.h"
#include "server/nested_keys.h"
#include "server/request_fields.h"

namespace neutrino::server {
namespace {

using net::find;

// cache_control is noted apart; a signature is what thinking comes with, and empty here.
constexpr auto kKeys = std::to_array<ReadKeys>({
    {"messages[]", "role content"},
    {"messages[].content[]",
     "type text thinking signature id name input tool_use_id content is_error cache_control"},
    {"messages[].content[].content[]", "type text cache_control"},
    {"system[]", "type text cache_control"},
    {"tools[]", "type name description input_schema strict cache_control"},
    {"tool_choice", "type name disable_parallel_tool_use"},
    {"thinking", "type budget_tokens"},
    {"output_format", "type schema"},
    {"output_config.format", "type schema"},
});
constexpr std::string_view kTextOnly = "\"text\" (this model takes text alone)";

// cache_control asks for what the prefix cache does anyway: it has no effect of its own, and is reported once.
void note_cache_control(const json::object& block, std::vector<std::string>& ignored) {
  if (find(block, "cache_control") && std::ranges::find(ignored, "cache_control") == ignored.end())
    ignored.emplace_back("cache_control");
}

// A string, or blocks of which each must be text.
json::value text_content(const json::value& content, const std::string& path,
                         std::vector<std::string>& ignored) {
  if (content.is_string()) return content;
  json::array parts;
  for (const json::value& value : array_at(content, path)) {
    const std::string where = fmt::format("{}[{}]", path, parts.size());
    const json::object& block = object_at(value, where);
    note_cache_control(block, ignored);
    const std::string type = type_at(block, where);
    if (type != "text") throw unsupported_type(where + ".type", type, kTextOnly);
    parts.push_back(text_part(text_at(block, "text", where)));
  }
  return parts;
}

class MessageTranslator {
 public:
  MessageTranslator(json::array& messages, std::vector<std::string>& ignored)
      : messages_(messages), ignored_(ignored) {}

  void add_system(const json::value& system) {
    messages_.push_back(
        json::object{{"role", "system"}, {"content", text_content(system, "system", ignored_)}});
  }

  void add(const json::value& value, const std::string& path) {
    const json::object& message = object_at(value, path);
    const std::string role = text_at(message, "role", path);
    if (role != "user" && role != "assistant")
      throw invalid_field(
          fmt::format("{}.role must be \"user\" or \"assistant\", got \"{:.40}\"", path, role),
          path + ".role");
    const auto* content = find(message, "content");
    if (!content)
      throw invalid_field(path + ".content is required", path + ".content", "missing_required_parameter");
    if (content->is_string())
      messages_.push_back(json::object{{"role", role}, {"content", *content}});
    else if (role == "user")
      add_user(array_at(*content, path + ".content"), path + ".content");
    else
      add_assistant(array_at(*content, path + ".content"), path + ".content");
  }

 private:
  // Results of tools become messages of their own; the text between them is the user's.
  void add_user(const json::array& blocks, const std::string& path) {
    if (blocks.empty()) throw invalid_field(path + " must not be empty", path);
    json::array text;
    const auto flush = [&] {
      if (text.empty()) return;
      messages_.push_back(json::object{{"role", "user"}, {"content", std::move(text)}});
      text = {};
    };
    size_t index = 0;
    for (const json::value& value : blocks) {
      const std::string where = fmt::format("{}[{}]", path, index++);
      const json::object& block = object_at(value, where);
      note_cache_control(block, ignored_);
      const std::string type = type_at(block, where);
      if (type == "text") {
        text.push_back(text_part(text_at(block, "text", where)));
      } else if (type == "tool_result") {
        flush();
        add_tool_result(block, where);
      } else {
        throw unsupported_type(where + ".type", type,
                               "\"text\" or \"tool_result\" (this model takes text alone)");
      }
    }
    flush();
  }

  void add_tool_result(const json::object& block, const std::string& path) {
    json::object message{{"role", "tool"}, {"tool_call_id", text_at(block, "tool_use_id", path)}};
    const auto* content = find(block, "content");
    message["content"] = content ? text_content(*content, path + ".content", ignored_) : json::value("");
    if (const auto* failed = find(block, "is_error"); failed && failed->is_bool() && failed->get_bool())
      message["content"] = error_content(message.at("content"));
    messages_.push_back(std::move(message));
  }

  // Templates know no failed calls; the text says it.
  static json::value error_content(const json::value& content) {
    json::array parts{text_part("Error:")};
    if (content.is_string())
      parts.push_back(text_part(std::string(content.get_string())));
    else
      for (const json::value& part : content.get_array()) parts.push_back(part);
    return parts;
  }

  void add_assistant(const json::array& blocks, const std::string& path) {
    json::object message{{"role", "assistant"}};
    json::array text, calls;
    std::string reasoning;
    size_t index = 0;
    for (const json::value& value : blocks) {
      const std::string where = fmt::format("{}[{}]", path, index++);
      const json::object& block = object_at(value, where);
      note_cache_control(block, ignored_);
      const std::string type = type_at(block, where);
      if (type == "text")
        text.push_back(text_part(text_at(block, "text", where)));
      else if (type == "thinking")
        reasoning += text_at(block, "thinking", where);
      else if (type == "tool_use")
        calls.push_back(tool_call(block, where));
      else
        throw unsupported_type(where + ".type", type, "\"text\", \"thinking\" or \"tool_use\"");
    }
    if (!text.empty()) message["content"] = std::move(text);
    if (!reasoning.empty()) message["reasoning_content"] = std::move(reasoning);
    if (!calls.empty()) message["tool_calls"] = std::move(calls);
    if (!message.contains("content") && !message.contains("tool_calls"))
      throw invalid_field(path + " must hold a text or a tool_use", path);
    messages_.push_back(std::move(message));
  }

  static json::object tool_call(const json::object& block, const std::string& path) {
    const auto* input = find(block, "input");
    if (!input)
      throw invalid_field(path + ".input is required", path + ".input", "missing_required_parameter");
    json::object function{{"name", text_at(block, "name", path)},
                          {"arguments", to_text(object_at(*input, path + ".input"))}};
    return {{"id", text_at(block, "id", path)}, {"type", "function"}, {"function", std::move(function)}};
  }

  json::array& messages_;
  std::vector<std::string>& ignored_;
};

json::array read_tools(const json::array& tools, std::vector<std::string>& ignored) {
  json::array result;
  for (const json::value& value : tools) {
    const std::string path = fmt::format("tools[{}]", result.size());
    const json::object& tool = object_at(value, path);
    note_cache_control(tool, ignored);
    if (find(tool, "type") && type_at(tool, path) != "custom")
      throw unsupported_type(path + ".type", type_at(tool, path),
                             "\"custom\" (tools that the server itself runs are not supported)");
    json::object function{{"name", text_at(tool, "name", path)}};
    copy_fields(tool, function,
                {{"description", "description"}, {"input_schema", "parameters"}, {"strict", "strict"}});
    result.push_back(json::object{{"type", "function"}, {"function", std::move(function)}});
  }
  return result;
}

void read_tool_choice(const json::object& choice, json::object& chat) {
  const std::string type = type_at(choice, "tool_choice");
  if (type == "auto" || type == "none")
    chat["tool_choice"] = type;
  else if (type == "any")
    chat["tool_choice"] = "required";
  else if (type == "tool")
    chat["tool_choice"] = {{"type", "function"},
                           {"function", {{"name", text_at(choice, "name", "tool_choice")}}}};
  else
    throw unsupported_type("tool_choice.type", type, "\"auto\", \"any\", \"tool\" or \"none\"");
  const auto* single = find(choice, "disable_parallel_tool_use");
  if (!single) return;
  if (!single->is_bool())
    throw invalid_field("tool_choice.disable_parallel_tool_use must be of type boolean",
                        "tool_choice.disable_parallel_tool_use", "invalid_type");
  if (single->get_bool()) chat["parallel_tool_calls"] = false;
}

// As a chat completion's own `thinking`, which switches the template's thinking on or off where it has a switch.
void read_thinking(const json::object& thinking, const json::object& body, json::object& chat) {
  const std::string type = type_at(thinking, "thinking");
  if (type != "enabled" && type != "disabled" && type != "adaptive")
    throw unsupported_type("thinking.type", type, "\"enabled\", \"adaptive\" or \"disabled\"");
  json::object& read = chat["thinking"].emplace_object();
  read["type"] = type;
  if (type != "enabled") return;
  const std::string path = "thinking.budget_tokens";
  const auto* budget = find(thinking, "budget_tokens");
  if (!budget) throw invalid_field(path + " is required", path, "missing_required_parameter");
  const auto* most = find(body, "max_tokens");
  if (!budget->is_int64() || budget->get_int64() < 1 ||
      (most && budget->get_int64() >= net::to_integer(*most)))
    throw invalid_field(fmt::format("{} must be an integer of at least 1 and below max_tokens, got {:.40}",
                                    path, to_text(*budget)),
                        path);
  read["budget_tokens"] = *budget;
}

// output_config.format and its older name output_format: {"type": "json_schema", "schema": ...}.
void read_output_format(const json::value& value, const std::string& path, json::object& chat) {
  const json::object& format = object_at(value, path);
  if (const std::string type = type_at(format, path); type != "json_schema")
    throw unsupported_type(path + ".type", type, "\"json_schema\"");
  const auto* schema = find(format, "schema");
  if (!schema)
    throw invalid_field(path + ".schema is required", path + ".schema", "missing_required_parameter");
  chat["response_format"] = {{"type", "json_schema"},
                             {"json_schema", {{"name", "answer"}, {"schema", *schema}, {"strict", true}}}};
}

void read_output_config(const json::object& config, json::object& chat) {
  for (const auto& [key, value] : config) {
    const std::string path = fmt::format("output_config.{:.40}", std::string_view(key));
    if (value.is_null()) continue;
    if (key == "format")
      read_output_format(value, path, chat);
    else if (key == "effort")
      chat["reasoning_effort"] = value;
    else
      throw invalid_field(path + " is not supported by this server", path, "unsupported_parameter");
  }
}

void read_messages(const json::object& body, MessagesBody& result) {
  json::array messages;
  MessageTranslator translator(messages, result.ignored);
  if (const auto* system = find(body, "system")) translator.add_system(*system);
  const json::array& list = body.at("messages").get_array();
  if (list.empty()) throw invalid_field("messages must not be empty", "messages");
  size_t index = 0;
  for (const json::value& message : list) translator.add(message, fmt::format("messages[{}]", index++));
  const json::object& last = messages.back().get_object();
  if (last.at("role") == "assistant") {  // a prefill: the answer goes on from it
    const std::string path = fmt::format("messages[{}]", list.size() - 1);
    if (last.contains("tool_calls"))
      throw invalid_field(path + " has a tool_use that no tool_result answers", path, "invalid_value");
    result.chat["continue_final_message"] = true;
  }
  result.chat["messages"] = std::move(messages);
}

}  // namespace

MessagesBody parse_messages_body(std::string_view text, MessagesUse use) {
  MessagesBody result;
  const json::object body = use == MessagesUse::count
                                ? net::parse_body(text, kCountTokensFields, result.ignored)
                                : net::parse_body(text, kMessagesFields, result.ignored);
  json::object& chat = result.chat;
  copy_fields(body, chat,
              {{"model", "model"},
               {"max_tokens", "max_tokens"},
               {"stop_sequences", "stop"},
               {"temperature", "temperature"},
               {"top_p", "top_p"},
               {"top_k", "top_k"},
               {"stream", "stream"}});
  if (const auto* stream = find(body, "stream")) result.stream = stream->get_bool();
  if (find(body, "cache_control")) note_cache_control(body, result.ignored);
  read_messages(body, result);
  note_unread_keys(body, kKeys, result.ignored);
  if (const auto* tools = find(body, "tools"); tools && !tools->get_array().empty())
    chat["tools"] = read_tools(tools->get_array(), result.ignored);
  if (const auto* choice = find(body, "tool_choice")) read_tool_choice(choice->get_object(), chat);
  if (const auto* thinking = find(body, "thinking")) read_thinking(thinking->get_object(), body, chat);
  if (const auto* format = find(body, "output_format")) read_output_format(*format, "output_format", chat);
  if (const auto* config = find(body, "output_config")) read_output_config(config->get_object(), chat);
  return result;
}

}  // namespace neutrino::server
