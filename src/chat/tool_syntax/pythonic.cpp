// Calls as Python writes them: the answer is [f(key="value", n=3), g()]. Llama 3.2 and 4; LFM2 with tags around the list:
//   <|tool_call_start|>[f(key="value")]<|tool_call_end|>
// Values are Python's literals, or JSON's where the two differ, and become JSON.
#include "base/json.h"
#include "base/limits.h"
#include "chat/json_scanner.h"
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

constexpr size_t kNumberCharacters = 400;

Reader<> read_literal(Reading& r, int depth);

void put(Reading& r, std::string_view json, size_t begin) { r.add_arguments(json, begin, r.position()); }

// The character behind a backslash, as JSON; what is behind it may be more (\x41).
Reader<> read_escape(Reading& r, char quote) {
  const size_t begin = r.position() - 1;
  const int character = co_await r.peek();
  if (character < 0x20) throw Malformed();
  r.skip();
  const char c = static_cast<char>(character);
  if (c == '\'' || (c == '"' && quote == '\'')) {
    put(r, c == '"' ? "\\\"" : "'", begin);
  } else if (std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos) {
    put(r, std::string{'\\', c}, begin);
  } else if (c == 'u' || c == 'x') {
    std::string digits = c == 'u' ? "\\u" : "\\u00";
    for (const size_t size = 6; digits.size() < size;) {
      const int digit = co_await r.peek();
      const bool hex =
          digit > 0 &&
          std::string_view("0123456789abcdefABCDEF").find(static_cast<char>(digit)) != std::string_view::npos;
      if (!hex) throw Malformed();
      digits += static_cast<char>(digit);
      r.skip();
    }
    put(r, digits, begin);
  } else {
    // An escape that Python does not know stands for itself.
    put(r, "\\\\" + std::string{c}, begin);
  }
}

Reader<> read_string(Reading& r) {
  const int first = co_await r.peek();
  const char quote = static_cast<char>(first);
  r.skip();
  put(r, "\"", r.position());
  for (;;) {
    const int character = co_await r.peek();
    if (character < 0x20) throw Malformed();
    r.skip();
    const char c = static_cast<char>(character);
    if (c == quote) break;
    if (c == '\\')
      co_await read_escape(r, quote);
    else
      put(r, c == '"' ? std::string_view("\\\"") : std::string_view(&c, 1), r.position() - 1);
  }
  put(r, "\"", r.position());
}

// True, false, None, a number.
Reader<> read_word(Reading& r) {
  const size_t begin = r.position();
  const std::string word = co_await read_until(r, ",)]}: \n\t\r", kNumberCharacters);
  std::string_view json = word;
  if (word == "True") json = "true";
  if (word == "False") json = "false";
  if (word == "None") json = "null";
  json::error_code error;
  const json::value value = json::parse(json, error);
  if (error || value.is_string() || value.is_object() || value.is_array()) throw Malformed();
  put(r, json, begin);
}

Reader<> read_member_key(Reading& r) {
  const int character = co_await r.peek();
  if (character != '"' && character != '\'') throw Malformed();
  co_await read_string(r);
  co_await skip_space(r);
  co_await expect(r, ":");
  put(r, ": ", r.position());
  co_await skip_space(r);
}

Reader<> read_items(Reading& r, char close, int depth) {
  if (depth >= limits::kJsonDepth / 2) throw Malformed();
  for (bool first = true;; first = false) {
    co_await skip_space(r);
    const int character = co_await r.peek();
    if (character == close) break;
    if (!first) put(r, ", ", r.position());
    if (close == '}') co_await read_member_key(r);
    co_await read_literal(r, depth + 1);
    co_await skip_space(r);
    const bool more = co_await skip_if(r, ",");
    if (!more) break;
  }
  const int character = co_await r.peek();
  if (character != close) throw Malformed();
}

Reader<> read_literal(Reading& r, int depth) {
  const int character = co_await r.peek();
  if (character == '"' || character == '\'') {
    co_await read_string(r);
    co_return;
  }
  if (character != '[' && character != '{') {
    co_await read_word(r);
    co_return;
  }
  const bool list = character == '[';
  r.skip();
  put(r, list ? "[" : "{", r.position() - 1);
  co_await read_items(r, list ? ']' : '}', depth);
  r.skip();
  put(r, list ? "]" : "}", r.position() - 1);
}

bool is_identifier(const std::string& text) {
  for (const char c : text)
    if (!(c == '_' || c == '.' || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
          (c >= 'A' && c <= 'Z')))
      return false;
  return !text.empty();
}

Reader<> read_call(Reading& r) {
  const size_t begin = r.position();
  const std::string name = co_await read_until(r, "(,] \n\"'", kFunctionNameBytes);
  const size_t end = r.position();
  if (!is_identifier(name)) throw Malformed();
  co_await expect(r, "(");
  r.begin_call(name, begin, end);
  put(r, "{", r.position());
  for (bool first = true;; first = false) {
    co_await skip_space(r);
    const int character = co_await r.peek();
    if (character == ')') break;
    const size_t key_begin = r.position();
    const std::string key = co_await read_until(r, "=,)(\n", kFunctionNameBytes);
    co_await expect(r, "=");
    put(r, (first ? "" : ", ") + json_text(key) + ": ", key_begin);
    co_await skip_space(r);
    co_await read_literal(r, 0);
    co_await skip_space(r);
    const bool more = co_await skip_if(r, ",");
    if (!more) break;
  }
  co_await expect(r, ")");
  put(r, "}", r.position());
  r.end_call();
  r.commit();
}

Reader<> read_list(Reading& r) {
  co_await expect(r, "[");
  for (;;) {
    co_await skip_space(r);
    co_await read_call(r);
    co_await skip_space(r);
    const bool more = co_await skip_if(r, ",");
    if (!more) break;
  }
  co_await expect(r, "]");
  r.commit();
}

Reader<> read_calls(Reading& r) {
  const bool tagged = co_await skip_if(r, "<|tool_call_start|>");
  co_await skip_space(r);
  co_await read_list(r);
  if (tagged) co_await read_close(r, "<|tool_call_end|>");
}

}  // namespace

const ToolSyntax kLfm2Syntax = {
    .name = "lfm2",
    .trigger = "<|tool_call_start|>",
    .markers = {"<|tool_call_start|>", "<|tool_call_end|>"},
    .form = {.open = "[",
             .after_name = "(",
             .parameters = {.before_value = "=", .between = ", "},
             .after_arguments = ")",
             .between = ", ",
             .close = "]<|tool_call_end|>"},
    .fits =
        [](std::string_view source) {
          return contains(source, "<|tool_call_start|>") || contains(source, "List of tools: [");
        },
    .read_calls = read_calls,
};

const ToolSyntax kPythonicSyntax = {
    .name = "pythonic",
    .start_triggers = {"["},
    .markers = {"<|python_start|>", "<|python_end|>"},
    .form = {.open = "[",
             .after_name = "(",
             .parameters = {.before_value = "=", .between = ", "},
             .after_arguments = ")",
             .between = ", ",
             .close = "]"},
    .fits = [](std::string_view source) { return contains(source, "func_name1(params_name1"); },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
