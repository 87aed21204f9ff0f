#include "chat/answer_check.h"

#include "base/error.h"

namespace neutrino::chat {
namespace {

// A vocabulary whose tokens are bytes, and one end token behind them: any text is its tokens.
const text::GrammarVocabulary& byte_vocabulary() {
  static const text::GrammarVocabulary vocabulary([] {
    text::VocabularyTokens tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.bytes.emplace_back(1, static_cast<char>(byte));
    tokens.bytes.emplace_back("<end>");
    tokens.special.assign(257, false);
    tokens.special[256] = true;
    tokens.end_tokens = {256};
    return tokens;
  }());
  return vocabulary;
}

// The grammar of a schema wants keys in the order of `properties`.
json::value in_schema_order(const json::value& value, const json::value& schema) {
  const json::object* rules = schema.if_object();
  if (!rules) return value;
  if (const json::array* array = value.if_array()) {
    const json::value* items = rules->if_contains("items");
    json::array ordered;
    for (const json::value& item : *array) ordered.push_back(items ? in_schema_order(item, *items) : item);
    return ordered;
  }
  const json::object* object = value.if_object();
  const json::value* found = rules->if_contains("properties");
  const json::object* properties = found ? found->if_object() : nullptr;
  if (!object || !properties) return value;
  json::object ordered;
  for (const auto& [key, rule] : *properties)
    if (const json::value* member = object->if_contains(key)) ordered[key] = in_schema_order(*member, rule);
  for (const auto& [key, member] : *object)
    if (!properties->contains(key)) ordered[key] = member;
  return ordered;
}

bool accepts(const text::Grammar& grammar, std::string_view text) {
  text::GrammarMatcher matcher(grammar);
  std::vector<uint64_t> mask(static_cast<size_t>(grammar.mask_words()));
  for (size_t i = 0; i < text.size(); ++i) {
    if (i % 64 == 0 && !matcher.fill_mask(mask)) return false;  // work is bounded mask by mask
    if (!matcher.consume(static_cast<unsigned char>(text[i]))) return false;
  }
  return matcher.is_accepting();
}

}  // namespace

AnswerCheck AnswerCheck::of_pattern(std::string_view pattern) {
  AnswerCheck check;
  check.pattern_ = std::make_shared<const text::Pattern>(pattern);
  return check;
}

AnswerCheck AnswerCheck::of_path(std::string_view path, std::optional<json::value> value) {
  AnswerCheck check;
  check.path_.emplace(ExtractorKind::json_path, path);
  if (value) check.value_ = value->is_string() ? std::string(value->get_string()) : to_text(*value);
  return check;
}

AnswerCheck AnswerCheck::of_schema(const json::value& schema, std::string_view param) {
  AnswerCheck check;
  check.schema_ = schema;
  check.grammar_ = std::make_shared<const text::Grammar>(
      byte_vocabulary(),
      text::GrammarSpec{
          .kind = text::GrammarKind::json_schema, .text = to_text(schema), .param = std::string(param)});
  return check;
}

bool AnswerCheck::passes(std::string_view text) const {
  if (pattern_) return pattern_->find_last(text).has_value();
  if (path_) {
    const auto found = path_->extract(text);
    return found && (!value_ || *found == *value_);
  }
  try {
    return accepts(*grammar_, to_text(in_schema_order(parse_json(text), schema_)));
  } catch (const Error&) {
    return false;  // no JSON
  }
}

}  // namespace neutrino::chat
