// One grammar for a whole answer, behind its reasoning: what tools ask for, and what the content must be.
//
// The grammar is in llguidance's Lark (text/constraints.h) and follows from the form that each tool syntax has in the table: where a
// call may begin, free text ends with what begins one, and from there the function's name and its schema rule. So arguments
// are valid in every mode, and none, required, one function or one call are a matter of what the grammar allows.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "chat/answer_style.h"
#include "text/constraints.h"

namespace neutrino::chat {

enum class ToolChoice : uint8_t { none, automatic, required };

struct AnswerRules {
  json::array tools = {};  // as OpenAI has them; their fields were checked
  ToolChoice choice = ToolChoice::automatic;
  std::string function = {};                      // with required: this one
  bool parallel = true;                           // may there be several calls?
  std::optional<text::GrammarSpec> content = {};  // what content must be; absent: any text
};

// nullopt: any answer will do. Throws Error{invalid_argument} with the JSON path in param for a schema that the syntax has no
// way to write down, and for content rules that do not go together with calls.
std::optional<text::GrammarSpec> answer_grammar(const AnswerStyle& style, const AnswerRules& rules);

}  // namespace neutrino::chat
