// A conversation, as plain data.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace neutrino::chat {

struct Message {
  std::string role = {};                    // system, developer, user, assistant, tool
  std::optional<std::string> content = {};  // absent only for an assistant message that is tool calls alone
  std::optional<std::string> name = {};
  std::optional<std::string> reasoning_content = {};
  std::optional<std::string> tool_call_id = {};  // role tool
  json::array tool_calls = {};                   // as the client sent them; templates render them
};

struct Conversation {
  std::vector<Message> messages = {};
  json::array tools = {};                // rendered into the prompt in the client's key order
  json::object template_arguments = {};  // chat_template_kwargs
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

}  // namespace neutrino::chat
