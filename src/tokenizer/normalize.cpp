#include "tokenizer/normalize.h"

#include "tokenizer/charsmap.h"
#include "tokenizer/normal_forms.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

// Builds a text anew from what `visit` makes of each character; bytes that are not UTF-8 are copied.
template <typename Visit>
std::string each_char(std::string_view text, const Visit& visit) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = first_char(text);
    const std::string_view one = text.substr(0, c.length);
    if (c.state == Utf8::valid)
      visit(c.code, one, out);
    else
      out.append(one);
    text.remove_prefix(c.length);
  }
  return out;
}

std::string drop(std::string_view text, uint32_t traits) {
  return each_char(text, [&](char32_t code, std::string_view one, std::string& out) {
    if (code < 0x80 || !(char_traits(code) & traits)) out.append(one);
  });
}

// Ideographs; neither kana nor hangul.
bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string clean_bert(std::string_view text, bool clean, bool chinese) {
  return each_char(text, [&](char32_t code, std::string_view one, std::string& out) {
    if (code >= 0x21 && code < 0x7F) {
      out.append(one);
      return;
    }
    const uint32_t traits = char_traits(code);
    if (clean && (traits & kBertRemoved)) return;
    if (clean && (traits & kBertSpace))
      out += ' ';
    else if (chinese && is_chinese(code))
      (out += ' ').append(one) += ' ';
    else
      out.append(one);
  });
}

std::string bert(const Normalizer& step, std::string_view text) {
  std::string out = clean_bert(text, step.clean_text, step.chinese);
  if (step.accents) out = drop(normal_form(out, NormalForm::nfd), kBertMark);
  return step.lower ? lower_case(out) : out;
}

std::string strip(const Normalizer& step, std::string_view text) {
  while (step.left && !text.empty()) {
    const Utf8Char c = first_char(text);
    if (!(char_traits(c.code) & kWhiteSpace)) break;
    text.remove_prefix(c.length);
  }
  size_t end = text.size();  // behind the last character that stays
  for (size_t at = 0, last = 0; step.right && at < text.size(); end = last) {
    const Utf8Char c = first_char(text.substr(at));
    at += c.length;
    if (!(char_traits(c.code) & kWhiteSpace)) last = at;
  }
  return std::string(text.substr(0, end));
}

std::string replace(const Normalizer& step, std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  while (!text.empty()) {
    const Stretch stretch = step.pattern.next(text);
    out.append(stretch.matched ? std::string_view(step.content) : text.substr(0, stretch.length));
    text.remove_prefix(stretch.length);
  }
  return out;
}

// The rules of neural machine translation that SentencePiece's charsmaps hold too.
std::string nmt(std::string_view text) {
  return each_char(text, [](char32_t c, std::string_view one, std::string& out) {
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
      return;
    const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    if (space)
      out += ' ';
    else
      out.append(one);
  });
}

std::string apply_step(const Normalizer& step, std::string_view text) {
  using enum Normalizer::Kind;
  switch (step.kind) {
    case nfc: return normal_form(text, NormalForm::nfc);
    case nfd: return normal_form(text, NormalForm::nfd);
    case nfkc: return normal_form(text, NormalForm::nfkc);
    case nfkd: return normal_form(text, NormalForm::nfkd);
    case lowercase: return lower_case(text);
    case strip_accents: return drop(text, kAccent);
    case Normalizer::Kind::strip: return tokenizer::strip(step, text);
    case Normalizer::Kind::replace: return tokenizer::replace(step, text);
    case prepend: return text.empty() ? std::string() : std::string(step.content).append(text);
    case Normalizer::Kind::bert: return tokenizer::bert(step, text);
    case precompiled: return apply_charsmap(step.content, text);
    case Normalizer::Kind::nmt: return tokenizer::nmt(text);
  }
  return std::string(text);
}

}  // namespace

void normalize(const std::vector<Normalizer>& steps, std::string& text) {
  for (const Normalizer& step : steps) text = apply_step(step, text);
}

void check_normalizers(const std::vector<Normalizer>& steps) {
  for (const Normalizer& step : steps)
    if (step.kind == Normalizer::Kind::precompiled) check_charsmap(step.content);
}

}  // namespace neutrino::tokenizer
