// Reasoning: what a model thinks before its answer, between tags that its family uses.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "chat/answer_reading.h"

namespace neutrino::chat {

struct ReasoningTags {
  std::string_view name;  // of --reasoning-parser
  std::string_view open, close;
  std::string_view template_marker;  // a template with this text is of a model that thinks so
};

// The families, in the order in which a template is tried.
std::span<const ReasoningTags> reasoning_tags();

// gpt-oss writes messages in channels, not tags (chat/tool_syntax/harmony.cpp); its tags are what surrounds the analysis.
bool is_harmony(const ReasoningTags& tags);

// By its name; "none" is nullptr. Throws Error{invalid_argument} that lists the names.
const ReasoningTags* find_reasoning_tags(std::string_view name);
// What a template is written for; nullptr: its model does not think, as far as can be seen.
const ReasoningTags* detect_reasoning_tags(std::string_view template_source);

// Does a prompt end inside of reasoning: with an open tag and perhaps white space?
bool ends_in_reasoning(std::string_view prompt, const ReasoningTags& tags);

// Reads an answer's reasoning, if it begins with some, and the white space behind it. `inside`: the prompt ended in it.
Reader<> read_reasoning(Reading& r, const ReasoningTags& tags, bool inside);

}  // namespace neutrino::chat
