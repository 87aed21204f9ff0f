// How models write tool calls: one file per syntax, and the table of all of them.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "chat/answer_reading.h"
#include "chat/tool_schema.h"

namespace neutrino::chat {

// How calls are to be written: the trigger, `open`, then for each call `before_name`, the name, `after_name`, its arguments and
// `after_arguments`, with `between` between two calls and `close` behind the last.
struct CallForm {
  std::string_view open = {};
  std::string_view before_name = {};
  std::string_view after_name = {};
  ParameterForm parameters = {};  // without before_value: the arguments are a JSON object
  std::string_view after_arguments = {};
  std::string_view between = {};
  std::string_view close = {};
};

// A JSON array of {"name": ..., "arguments": ...}.
inline constexpr CallForm kJsonArrayForm = {.open = "[",
                                            .before_name = "{\"name\": \"",
                                            .after_name = "\", \"arguments\": ",
                                            .after_arguments = "}",
                                            .between = ", ",
                                            .close = "]"};

struct ToolSyntax {
  std::string_view name;  // of --tool-call-parser
  // A call begins with this text; empty: with one of `start_triggers`.
  std::string_view trigger;
  // What begins a call at the beginning of the answer alone, where it may as well be content.
  std::array<std::string_view, 2> start_triggers = {};
  // Texts that a tokenizer may have as special tokens; these are shown to the reader.
  std::array<std::string_view, 8> markers = {};
  CallForm form = {};
  // Is a chat template written for this syntax?
  bool (*fits)(std::string_view template_source) = nullptr;
  // Reads one or more calls, with what begins and ends them. Throws Malformed.
  Reader<> (*read_calls)(Reading& r) = nullptr;
};

extern const ToolSyntax kHarmonySyntax, kMistralSyntax, kMistralArgsSyntax, kDeepseekV3Syntax,
    kDeepseekV31Syntax, kNemotronSyntax, kGraniteSyntax, kQwen3CoderSyntax, kGlmSyntax, kHermesSyntax,
    kLfm2Syntax, kPythonicSyntax, kLlama3JsonSyntax;

// In the order in which a template is tried: what is more particular comes first.
inline constexpr const ToolSyntax* kToolSyntaxes[] = {
    &kHarmonySyntax,  &kMistralArgsSyntax, &kMistralSyntax,    &kDeepseekV3Syntax, &kDeepseekV31Syntax,
    &kNemotronSyntax, &kGraniteSyntax,     &kQwen3CoderSyntax, &kGlmSyntax,        &kHermesSyntax,
    &kLfm2Syntax,     &kPythonicSyntax,    &kLlama3JsonSyntax,
};

// By its name. Throws Error{invalid_argument} that lists the names.
const ToolSyntax& find_tool_syntax(std::string_view name);
// What a template is written for; nullptr: it shows none that is known.
const ToolSyntax* detect_tool_syntax(std::string_view template_source);

// Content, and calls wherever they begin.
Reader<> read_content(Reading& r, const ToolSyntax* syntax);
// A whole answer in OpenAI's harmony format; without tools calls are content.
Reader<> read_harmony(Reading& r, bool tools);

}  // namespace neutrino::chat
