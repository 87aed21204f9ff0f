#include "chat/answer_style.h"

#include "chat/answer_parser.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::chat {

AnswerStyle choose_answer_style(std::string_view template_source, const tokenizer::Tokenizer& tokenizer,
                                std::string_view tool_call_parser, std::string_view reasoning_parser) {
  AnswerStyle style;
  style.calls =
      tool_call_parser.empty() ? detect_tool_syntax(template_source) : &find_tool_syntax(tool_call_parser);
  if (style.calls == nullptr) style.calls = &kHermesSyntax;
  style.reasoning = reasoning_parser.empty() ? detect_reasoning_tags(template_source)
                                             : find_reasoning_tags(reasoning_parser);
  if (style.calls == &kHarmonySyntax) style.reasoning = find_reasoning_tags(kHarmonySyntax.name);
  for (const std::string_view marker : answer_markers({.reasoning = style.reasoning, .calls = style.calls}))
    if (const auto token = tokenizer.find(marker); token && tokenizer.is_special(*token))
      style.special.emplace(marker, *token);
  return style;
}

}  // namespace neutrino::chat
