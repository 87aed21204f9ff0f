#include "chat/tool_syntax/tagged_values.h"

#include <algorithm>

#include "base/json.h"
#include "base/limits.h"
#include "chat/tool_syntax/json_call.h"

namespace neutrino::chat {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool is_json(std::string_view text) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = limits::kJsonDepth - 1;  // it stands in the object of all arguments
  json::parse(text, error, {}, options);
  return !error;
}

// One byte of a string as it stands in JSON; the text is UTF-8.
std::string escaped(char byte) {
  if (byte == '"' || byte == '\\') return {'\\', byte};
  if (static_cast<unsigned char>(byte) >= 0x20) return {byte};
  switch (byte) {
    case '\n': return "\\n";
    case '\t': return "\\t";
    case '\r': return "\\r";
    default: return fmt::format("\\u{:04x}", byte);
  }
}

}  // namespace

bool is_text_parameter(const json::object* parameters, std::string_view name) {
  if (parameters == nullptr) return false;
  const auto* properties = parameters->if_contains("properties");
  if (properties == nullptr || !properties->is_object()) return false;
  const auto* schema = properties->get_object().if_contains(name);
  if (schema == nullptr || !schema->is_object()) return false;
  if (const auto* type = schema->get_object().if_contains("type"))
    return type->is_string() && type->get_string() == "string";
  const auto* values = schema->get_object().if_contains("enum");
  return values != nullptr && values->is_array() && !values->get_array().empty() &&
         std::ranges::all_of(values->get_array(), [](const json::value& value) { return value.is_string(); });
}

void TaggedArguments::finish() { r_.add_arguments(any_ ? "}" : "{}", r_.position(), r_.position()); }

Reader<> TaggedArguments::read(const std::string& key, size_t begin, size_t end, std::string_view close) {
  r_.add_arguments((any_ ? ", " : "{") + json_text(key) + ": ", begin, end);
  any_ = true;
  return read_value(r_, is_text_parameter(r_.parameters(), key), close);
}

Reader<> TaggedArguments::read_value(Reading& r, bool text, std::string_view close) {
  if (text)
    co_await read_text(r, close);
  else
    co_await read_json(r, close);
  r.skip(close.size());
  r.commit();
}

Reader<> TaggedArguments::read_text(Reading& r, std::string_view close) {
  r.add_arguments("\"", r.position(), r.position());
  for (;;) {
    const bool closes = co_await is_next(r, close);
    if (closes) break;
    const int character = co_await r.peek();
    if (character == Reading::kEnd) throw Malformed();
    r.skip();
    r.add_arguments(escaped(static_cast<char>(character)), r.position() - 1, r.position());
  }
  r.add_arguments("\"", r.position(), r.position());
}

Reader<> TaggedArguments::read_json(Reading& r, std::string_view close) {
  const size_t begin = r.position();
  std::string text;
  for (;;) {
    const bool closes = co_await is_next(r, close);
    if (closes) break;
    const int character = co_await r.peek();
    if (character == Reading::kEnd) throw Malformed();
    r.skip();
    text += static_cast<char>(character);
  }
  const std::string_view value = trimmed(text);
  r.add_arguments(is_json(value) ? std::string(value) : json_text(text), begin, r.position());
}

}  // namespace neutrino::chat
