// For tests: the cases of tests/golden/templates/cases.json (made by tools/make_template_golden.py with transformers).
#pragma once

#include <string>

#include "base/file.h"
#include "base/json.h"
#include "chat/message.h"

namespace neutrino::chat {

inline const json::object& template_golden() {
  static const json::value value =
      parse_json(read_file(NEUTRINO_SOURCE_DIR "/tests/golden/templates/cases.json", 16 << 20));
  return value.as_object();
}

inline std::optional<std::string> optional_text(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || value->is_null()) return std::nullopt;
  return std::string(value->as_string());
}

inline Conversation golden_conversation(const json::object& one) {
  Conversation conversation;
  for (const auto& value :
       template_golden().at("conversations").at(one.at("conversation").as_string()).as_array()) {
    const json::object& object = value.as_object();
    Message message{.role = std::string(object.at("role").as_string()),
                    .content = optional_text(object, "content"),
                    .name = optional_text(object, "name"),
                    .reasoning_content = optional_text(object, "reasoning_content"),
                    .tool_call_id = optional_text(object, "tool_call_id")};
    if (const json::value* calls = object.if_contains("tool_calls")) message.tool_calls = calls->as_array();
    conversation.messages.push_back(std::move(message));
  }
  if (const json::value* tools = one.if_contains("tools")) conversation.tools = tools->as_array();
  if (const json::value* arguments = one.if_contains("arguments"))
    conversation.template_arguments = arguments->as_object();
  conversation.add_generation_prompt = one.at("add_generation_prompt").as_bool();
  conversation.continue_final_message = one.contains("continue_final_message");
  return conversation;
}

}  // namespace neutrino::chat
