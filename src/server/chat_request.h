// The body of POST /v1/chat/completions as types.
#pragma once

#include <string_view>

#include "chat/answer_grammar.h"
#include "chat/message.h"
#include "server/inference_request.h"

namespace neutrino::server {

struct ChatRequest : InferenceRequest {
  chat::Conversation conversation;
  chat::AnswerRules rules;  // what tools ask of the answer
};

// Throws Error{invalid_argument} whose param is the JSON path of the field at fault.
ChatRequest parse_chat_request(std::string_view body, const ModelView& model);

// How the answer is taken apart, and its constraint: request.answer and request.constraint. `prompt`: the rendered conversation.
// Throws Error{invalid_argument} for what cannot be honoured together.
void settle_answer(const chat::ChatModelInfo& info, std::string_view prompt, ChatRequest& request);

// messages, tools and template arguments, which /tokenize takes as well.
chat::Conversation read_conversation(const json::object& body);

// Those of their fields that say nothing where a body has a text in place of messages are added to `ignored`.
void note_conversation_fields(const json::object& body, std::vector<std::string>& ignored);

}  // namespace neutrino::server
