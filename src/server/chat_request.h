// The body of POST /v1/chat/completions as types.
#pragma once

#include <string_view>

#include "chat/message.h"
#include "server/inference_request.h"

namespace neutrino::server {

struct ChatRequest : InferenceRequest {
  chat::Conversation conversation;
};

// Throws Error{invalid_argument} whose param is the JSON path of the field at fault.
ChatRequest parse_chat_request(std::string_view body, const ModelView& model);

// messages, tools and template arguments, which /tokenize takes as well.
chat::Conversation read_conversation(const json::object& body);

}  // namespace neutrino::server
