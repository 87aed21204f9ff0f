// The body of OpenAI's POST /v1/responses, turned into the body of a chat completion.
//
// Nothing is stored: previous_response_id and conversation name state that is not here, and store: true asks for some.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/inference_request.h"

namespace neutrino::server {

struct ResponsesBody {
  json::object chat;                 // for parse_chat_request()
  json::object echo;                 // what the answer repeats of the request: instructions, tools, text, ...
  std::vector<std::string> ignored;  // fields that have no effect
};

// Throws Error{invalid_argument} whose param is the path in the body that was sent, and Error{not_found} for stored state.
ResponsesBody parse_responses_body(std::string_view body);

}  // namespace neutrino::server
