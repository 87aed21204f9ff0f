#include "chat/tool_prompt.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace neutrino::chat {
namespace {

bool has_calls(const Conversation& conversation) {
  return std::ranges::any_of(conversation.messages, [](const Message& message) {
    return !message.tool_calls.empty() || message.role == "tool";
  });
}

json::value arguments_object(const json::value& arguments) {
  if (!arguments.is_string()) return arguments;
  if (arguments.get_string().empty()) return json::object();
  return parse_json(arguments.get_string());
}

Conversation with_argument_objects(Conversation conversation) {
  for (Message& message : conversation.messages)
    for (json::value& call : message.tool_calls) {
      json::object& function = call.as_object()["function"].as_object();
      if (json::value* arguments = function.if_contains("arguments"))
        *arguments = arguments_object(*arguments);
    }
  return conversation;
}

std::string tools_text(const json::array& tools) {
  std::string text =
      "You can call functions. Their signatures are between <tools> and </tools>, one JSON object a "
      "line:\n<tools>\n";
  for (const json::value& tool : tools) text += to_text(tool) + '\n';
  return text +
         "</tools>\n\nTo call a function, answer with a JSON object that has its name and its arguments, "
         "between "
         "<tool_call> and </tool_call>:\n<tool_call>\n{\"name\": \"function\", \"arguments\": "
         "{}}\n</tool_call>";
}

std::string calls_text(const Message& message) {
  std::string text = message.content.value_or("");
  for (const json::value& call : message.tool_calls) {
    const json::object& function = call.at("function").as_object();
    if (!text.empty()) text += '\n';
    text += "<tool_call>\n{\"name\": " + to_text(function.at("name")) +
            ", \"arguments\": " + to_text(arguments_object(function.at("arguments"))) + "}\n</tool_call>";
  }
  return text;
}

// Results that follow one another are one message of the user.
void add_result(std::vector<Message>& messages, const Message& result, bool& last_is_result) {
  const std::string text = "<tool_response>\n" + result.content.value_or("") + "\n</tool_response>";
  if (last_is_result)
    *messages.back().content += '\n' + text;
  else
    messages.push_back({.role = "user", .content = text});
  last_is_result = true;
}

Conversation tools_as_text(const Conversation& conversation) {
  Conversation plain = conversation;
  plain.tools.clear();
  plain.messages.clear();
  bool last_is_result = false;
  for (const Message& message : conversation.messages) {
    if (message.role == "tool") {
      add_result(plain.messages, message, last_is_result);
      continue;
    }
    last_is_result = false;
    plain.messages.push_back(message);
    plain.messages.back().tool_calls.clear();
    if (!message.tool_calls.empty()) plain.messages.back().content = calls_text(message);
  }
  if (conversation.tools.empty()) return plain;
  const std::string text = tools_text(conversation.tools);
  Message& first = plain.messages.front();
  if (first.role == "system")
    first.content = first.content.value_or("") + "\n\n" + text;
  else
    plain.messages.insert(plain.messages.begin(), {.role = "system", .content = text});
  return plain;
}

}  // namespace

std::string render_with_tools(const ChatTemplate& chat_template, const Conversation& conversation) {
  const bool calls = has_calls(conversation);
  if (conversation.messages.empty() || (conversation.tools.empty() && !calls))
    return chat_template.render(conversation);
  if (!chat_template.mentions("tools")) return chat_template.render(tools_as_text(conversation));
  if (!calls) return chat_template.render(conversation);
  try {
    return chat_template.render(with_argument_objects(conversation));
  } catch (const Error&) {
    return chat_template.render(conversation);
  }
}

}  // namespace neutrino::chat
