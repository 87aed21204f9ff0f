// How a model writes its answers: the syntax of its tool calls, the tags of its reasoning.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace neutrino::tokenizer {
class Tokenizer;
}

namespace neutrino::chat {

struct ToolSyntax;
struct ReasoningTags;

struct AnswerStyle {
  const ToolSyntax* calls = nullptr;                         // absent: the model calls no tools
  const ReasoningTags* reasoning = nullptr;                  // absent: it does not think
  std::map<std::string, int32_t, std::less<>> special = {};  // markup that is one special token, and its id
};

// As the model's chat template shows, unless a name says otherwise: of a syntax or of tags ("none": no reasoning); empty: the
// template. A template that shows no syntax gets "hermes", the most common one. Throws Error{invalid_argument} for a name
// that is not known.
AnswerStyle choose_answer_style(std::string_view template_source, const tokenizer::Tokenizer& tokenizer,
                                std::string_view tool_call_parser, std::string_view reasoning_parser);

}  // namespace neutrino::chat
