#include "cli/fill_in_tokens.h"

namespace neutrino::cli {
namespace {

struct Texts {
  std::string_view prefix, suffix, middle;
};

constexpr Texts kFamilies[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},     // Qwen 2.5 Coder, CodeGemma
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},           // StarCoder, SmolLM, Granite
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},           // SantaCoder
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},     // DeepSeek Coder
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"},  // GLM
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},                             // Code Llama
};

std::optional<chat::FillInTokens> by_ids(const weights::Metadata& metadata,
                                         const tokenizer::Tokenizer& tokenizer) {
  const auto id = [&](std::string_view name) {
    const auto value = metadata.integer("tokenizer.ggml." + std::string(name) + "_token_id");
    return value && *value >= 0 && *value < tokenizer.size() ? static_cast<int32_t>(*value) : -1;
  };
  const chat::FillInTokens tokens{id("fim_pre"), id("fim_suf"), id("fim_mid")};
  if (tokens.prefix >= 0 && tokens.suffix >= 0 && tokens.middle >= 0) return tokens;
  return std::nullopt;
}

}  // namespace

std::optional<chat::FillInTokens> find_fill_in_tokens(const weights::Metadata& metadata,
                                                      const tokenizer::Tokenizer& tokenizer) {
  if (const auto tokens = by_ids(metadata, tokenizer)) return tokens;
  for (const Texts& texts : kFamilies) {
    const auto prefix = tokenizer.find(texts.prefix), suffix = tokenizer.find(texts.suffix),
               middle = tokenizer.find(texts.middle);
    if (prefix && suffix && middle) return chat::FillInTokens{*prefix, *suffix, *middle};
  }
  return std::nullopt;
}

}  // namespace neutrino::cli
