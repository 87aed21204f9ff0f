#include "chat/thinking_tokens.h"

#include <algorithm>

namespace neutrino::chat {
namespace {

bool only_space(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return is_space(static_cast<unsigned char>(c)); });
}

// "...", "!?", or a line break at the end.
bool ends_sentence(std::string_view text) {
  while (text.ends_with(' ')) text.remove_suffix(1);
  return !text.empty() && std::string_view(".!?\n").find(text.back()) != std::string_view::npos;
}

bool closes_with_text(std::string_view bytes, std::string_view close) {
  for (size_t size = 1; size < bytes.size(); ++size) {
    const std::string_view head = bytes.substr(0, size);
    if ((close.ends_with(head) || head.ends_with(close)) && !only_space(bytes.substr(size))) return true;
  }
  return false;
}

}  // namespace

std::shared_ptr<const ThinkingTokens> make_thinking_tokens(const ReasoningTags& tags,
                                                           const tokenizer::Tokenizer& tokenizer) {
  auto made = std::make_shared<ThinkingTokens>();
  const auto encode = [&](std::string_view text) {
    return tokenizer.encode(text, tokenizer::Special::parse);
  };
  made->open = tags.open;
  made->close = tags.close;
  made->in_grammar = is_harmony(tags);
  if (const std::vector<int32_t> open = encode(tags.open); open.size() == 1) made->open_token = open[0];
  made->close_tokens = encode(tags.close);
  made->after_tokens = encode("\n\n");
  made->tokenizer = &tokenizer;
  for (int32_t token = 0; token < tokenizer.size(); ++token) {
    const std::string_view bytes = tokenizer.bytes(token);
    made->ends_sentence.push_back(!tokenizer.is_special(token) && ends_sentence(bytes));
    made->closes_with_text.push_back(!tokenizer.is_special(token) && closes_with_text(bytes, tags.close));
  }
  return made;
}

}  // namespace neutrino::chat
