// How the answer to one request is taken apart.
#pragma once

#include "chat/answer_reading.h"
#include "chat/reasoning.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {

struct AnswerSyntax {
  const ReasoningTags* reasoning = nullptr;  // absent: the answer has no reasoning
  bool in_reasoning = false;                 // it begins inside: the prompt ends with the open tag
  const ToolSyntax* calls = nullptr;         // absent: there are no tools to call
  KnownTools tools = {};                     // those that may be called
};

}  // namespace neutrino::chat
