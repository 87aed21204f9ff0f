// tools, tool_choice and parallel_tool_calls of a body as types.
#pragma once

#include "base/json.h"
#include "chat/answer_grammar.h"
#include "chat/answer_reading.h"

namespace neutrino::server {

// Names, types and uniqueness of what is in `tools`. Throws Error{invalid_argument} with the JSON path.
void check_tools(const json::array& tools);

// Of a body that net::parse_body() and check_tools() have checked.
chat::AnswerRules read_answer_rules(const json::object& body);

// The functions that these rules allow to be called.
chat::KnownTools known_tools(const chat::AnswerRules& rules);

}  // namespace neutrino::server
