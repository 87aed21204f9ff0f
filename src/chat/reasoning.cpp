#include "chat/reasoning.h"

#include <algorithm>

#include "base/error.h"

namespace neutrino::chat {
namespace {

constexpr std::string_view kHarmony = "harmony";

constexpr ReasoningTags kTags[] = {
    // gpt-oss
    {kHarmony, "<|channel|>analysis<|message|>", "<|end|>", "<|channel|>analysis<|message|>"},
    // Magistral, Ministral
    {"mistral", "[THINK]", "[/THINK]", "[THINK]"},
    // ByteDance Seed
    {"seed", "<seed:think>", "</seed:think>", "<seed:think>"},
    // Qwen 3, QwQ, DeepSeek R1 and V3.1, GLM 4.5, Nemotron, Granite 3.2, SmolLM3, MiniMax and most others
    {"think", "<think>", "</think>", "<think>"},
};

}  // namespace

std::span<const ReasoningTags> reasoning_tags() { return kTags; }

bool is_harmony(const ReasoningTags& tags) { return tags.name == kHarmony; }

const ReasoningTags* find_reasoning_tags(std::string_view name) {
  if (name == "none") return nullptr;
  const auto found = std::ranges::find(kTags, name, &ReasoningTags::name);
  if (found != std::end(kTags)) return &*found;
  std::string names = "none";
  for (const ReasoningTags& tags : kTags) names.append(", ").append(tags.name);
  throw make_error(ErrorCode::invalid_argument, "the reasoning parser must be one of {}, got \"{:.40}\"",
                   names, name);
}

const ReasoningTags* detect_reasoning_tags(std::string_view template_source) {
  const auto found = std::ranges::find_if(kTags, [&](const ReasoningTags& tags) {
    return template_source.find(tags.template_marker) != std::string_view::npos;
  });
  return found == std::end(kTags) ? nullptr : &*found;
}

bool ends_in_reasoning(std::string_view prompt, const ReasoningTags& tags) {
  while (!prompt.empty() && is_space(prompt.back())) prompt.remove_suffix(1);
  return prompt.ends_with(tags.open);
}

Reader<> read_reasoning(Reading& r, const ReasoningTags& tags, bool inside) {
  if (!inside) {
    size_t space = 0;
    for (int character = co_await r.peek(); is_space(character); character = co_await r.peek(space)) ++space;
    const bool opens = co_await is_next(r, tags.open, space);
    if (!opens) co_return;
    r.skip(space + tags.open.size());
  }
  r.begin_reasoning();
  co_await skip_space(r);
  for (;;) {
    const int character = co_await r.peek();
    if (character == Reading::kEnd) co_return;
    const bool closes = co_await is_next(r, tags.close);
    if (closes) break;
    r.take_reasoning();
  }
  r.end_reasoning();
  r.skip(tags.close.size());
  co_await skip_space(r);
}

}  // namespace neutrino::chat
