// What a body asks of a model's reasoning: how much effort, at most how many tokens.
#pragma once

#include <optional>

#include "base/json.h"
#include "chat/chat_model.h"
#include "chat/message.h"

namespace neutrino::server {

// reasoning_effort (and thinking.type, reasoning.effort) become arguments of the template, by the names that it has for them. The result
// is the thinking budget under any of its names: thinking_token_budget, max_thinking_tokens, nvext.max_thinking_tokens,
// thinking.budget_tokens, reasoning.budget; given twice it must be the same. An effort of "none" is a budget of 0 where the
// template has no switch. Throws Error{invalid_argument} naming what this model cannot honour.
std::optional<int64_t> read_reasoning(const json::object& body, const chat::ChatModelInfo& info,
                                      chat::Conversation& conversation);

// Refuses template arguments that the template does not read. Throws Error{invalid_argument}.
void check_template_arguments(const chat::Conversation& conversation, const chat::ChatModelInfo& info);

}  // namespace neutrino::server
