// The body of Anthropic's POST /v1/messages, turned into the body of a chat completion.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/inference_request.h"

namespace neutrino::server {

struct MessagesBody {
  json::object chat;  // for parse_chat_request()
  bool stream = false;
  std::vector<std::string> ignored;  // fields that have no effect
};

enum class MessagesUse { answer, count };  // count: POST /v1/messages/count_tokens, without max_tokens

// Throws Error{invalid_argument} whose param is the path in the body that was sent.
MessagesBody parse_messages_body(std::string_view body, MessagesUse use);

}  // namespace neutrino::server
