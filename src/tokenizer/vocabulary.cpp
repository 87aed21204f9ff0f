#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_set>

#include "base/error.h"
#include "base/limits.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

// Texts of control tokens that end a turn or a document in the model families we know.
constexpr std::string_view kStopTexts[] = {
    "<|endoftext|>", "<|end_of_text|>", "</s>",       "<eos>",    "<|im_end|>", "<|eot_id|>", "<|eom_id|>",
    "<end_of_turn>", "<|end|>",         "<|return|>", "<|call|>", "<EOT>",      "[EOS]",      "<turn|>",
};

template <typename... Args>
Error bad(std::string_view check_name, fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...)
      .with_reason(std::string(check_name));
}

void check_counts(const Vocabulary& v) {
  const size_t size = v.tokens.size();
  if (size == 0 || size > static_cast<size_t>(limits::kVocabularyTokens))
    throw bad("vocabulary_size", "the vocabulary must have 1-{} tokens, got {}", limits::kVocabularyTokens,
              size);
  if (!v.kinds.empty() && v.kinds.size() != size)
    throw bad("vocabulary_count", "the vocabulary has {} tokens but {} token types", size, v.kinds.size());
  if (!v.scores.empty() && v.scores.size() != size)
    throw bad("vocabulary_count", "the vocabulary has {} tokens but {} scores", size, v.scores.size());
}

void check_tokens(const Vocabulary& v) {
  std::unordered_set<std::string_view> seen;
  seen.reserve(v.tokens.size());
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    const std::string& text = v.tokens[id];
    if (text.size() > static_cast<size_t>(limits::kTokenTextBytes))
      throw bad("token_length", "token {} must have at most {} bytes of text, got {}", id,
                limits::kTokenTextBytes, text.size());
    if (!seen.insert(text).second)
      throw bad("token_text_twice", "token {} has the text \"{:.100}\" of an earlier token", id, text);
    const int kind = v.kinds.empty() ? 1 : static_cast<int>(v.kinds[id]);
    if (kind < 1 || kind > 6) throw bad("token_kind", "token {} must have a type of 1-6, got {}", id, kind);
    if (!v.scores.empty() && std::isnan(v.scores[id]))
      throw bad("token_score", "token {} has a score that is not a number", id);
  }
}

void check_special_ids(const Vocabulary& v) {
  const std::pair<const char*, std::optional<int32_t>> named[] = {
      {"bos", v.bos},         {"eos", v.eos}, {"unknown", v.unknown},
      {"padding", v.padding}, {"eot", v.eot}, {"separator", v.separator},
      {"mask", v.mask}};
  for (const auto& [name, id] : named)
    if (id && (*id < 0 || *id >= static_cast<int64_t>(v.tokens.size())))
      throw bad("special_id", "the {} token id must be 0-{}, got {}", name, v.tokens.size() - 1, *id);
  for (const int32_t id : v.stops)
    if (id < 0 || id >= static_cast<int64_t>(v.tokens.size()))
      throw bad("special_id", "a stop token id must be 0-{}, got {}", v.tokens.size() - 1, id);
}

// Printable characters of Latin-1 stand for themselves; the other 68 bytes take U+0100, U+0101, ... in order.
constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr auto kByteOfCharacter = [] {  // index: code point below U+0144; -1: none
  std::array<int16_t, 0x144> table{};
  table.fill(-1);
  for (int byte = 0, next = 0x100; byte < 256; ++byte)
    table[is_printable(byte) ? byte : next++] = static_cast<int16_t>(byte);
  return table;
}();

std::string unmap(std::string_view text, int32_t id) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    const int byte =
        c.state == Utf8::valid && c.code < kByteOfCharacter.size() ? kByteOfCharacter[c.code] : -1;
    if (byte < 0)
      throw bad("token_text",
                "token {} (\"{:.100}\") holds U+{:04X}, which stands for no byte in a byte-level vocabulary",
                id, text, static_cast<uint32_t>(c.code));
    bytes += static_cast<char>(byte);
    at += c.length;
  }
  return bytes;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string byte_token(std::string_view text, int32_t id) {
  const bool framed = text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
  const int high = framed ? hex_digit(text[3]) : -1, low = framed ? hex_digit(text[4]) : -1;
  if (high < 0 || low < 0)
    throw bad("byte_token", "byte token {} must read <0x00> ... <0xFF>, got \"{:.100}\"", id, text);
  return std::string(1, static_cast<char>(high * 16 + low));
}

}  // namespace

void check_vocabulary(const Vocabulary& vocabulary) {
  check_counts(vocabulary);
  check_tokens(vocabulary);
  check_special_ids(vocabulary);
}

TokenKind token_kind(const Vocabulary& vocabulary, int32_t id) {
  return vocabulary.kinds.empty() ? TokenKind::normal : vocabulary.kinds[id];
}

std::string byte_token_bytes(const Vocabulary& vocabulary, int32_t id) {
  return byte_token(vocabulary.tokens[static_cast<size_t>(id)], id);
}

std::string byte_level_bytes(const Vocabulary& vocabulary, int32_t id) {
  const std::string& text = vocabulary.tokens[id];
  switch (token_kind(vocabulary, id)) {
    case TokenKind::normal: return unmap(text, id);
    case TokenKind::byte: return byte_token(text, id);
    default: return text;
  }
}

std::vector<int32_t> find_stop_tokens(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids = vocabulary.stops;
  if (vocabulary.eos) ids.push_back(*vocabulary.eos);
  if (vocabulary.eot) ids.push_back(*vocabulary.eot);
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id)
    if (token_kind(vocabulary, id) == TokenKind::control &&
        std::ranges::count(kStopTexts, vocabulary.tokens[id]))
      ids.push_back(id);
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace neutrino::tokenizer
