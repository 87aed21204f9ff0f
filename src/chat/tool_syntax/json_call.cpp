#include "chat/tool_syntax/json_call.h"

#include <algorithm>
#include <cctype>

#include "base/json.h"
#include "chat/json_scanner.h"

namespace neutrino::chat {
namespace {

struct Held {
  std::string text = {};
  size_t begin = 0, end = 0;
};

// An object whose function is not known yet.
Reader<Held> hold_object(Reading& r) {
  Held held{.begin = r.position()};
  JsonScanner scanner;
  for (;;) {
    const int character = co_await r.peek();
    const auto step =
        character == Reading::kEnd ? JsonScanner::Step::bad : scanner.step(static_cast<char>(character));
    if (step == JsonScanner::Step::bad) throw Malformed();
    held.text += static_cast<char>(character);
    r.skip();
    if (step == JsonScanner::Step::more) continue;
    held.end = r.position();
    co_return held;
  }
}

// What is known of a call while its object is read.
struct Call {
  std::string name = {};
  size_t name_begin = 0, name_end = 0;
  Held arguments = {};  // if they came before the name
  bool open = false;    // begun in the answer
};

Reader<> read_arguments(Reading& r, Call& call) {
  if (call.open || !call.arguments.text.empty()) throw Malformed();
  if (call.name.empty()) {
    call.arguments = co_await hold_object(r);
    co_return;
  }
  const int character = co_await r.peek();
  if (character != '{') throw Malformed();
  r.begin_call(call.name, call.name_begin, call.name_end);
  call.open = true;
  co_await read_json_arguments(r);
}

Reader<> read_name(Reading& r, Call& call) {
  if (!call.name.empty()) throw Malformed();
  call.name_begin = r.position() + 1;
  call.name = co_await read_json_string(r);
  call.name_end = r.position() - 1;
}

Reader<> read_label(Reading& r, const std::string& key) {
  const std::string value = co_await read_json_string(r);
  if (key == "id")
    check_call_id(value);
  else if (key != "type" || value != "function")
    throw Malformed();
}

Reader<> read_member(Reading& r, Call& call) {
  const std::string key = co_await read_json_string(r);
  co_await skip_space(r);
  co_await expect(r, ":");
  co_await skip_space(r);
  if (key == "name")
    co_await read_name(r, call);
  else if (key == "arguments" || key == "parameters")
    co_await read_arguments(r, call);
  else
    co_await read_label(r, key);
}

}  // namespace

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

void check_call_id(std::string_view id) {
  constexpr size_t kCharacters = 64;
  if (id.empty() || id.size() > kCharacters ||
      !std::ranges::all_of(id, [](unsigned char c) { return std::isalnum(c); }))
    throw Malformed();
}

std::string json_text(std::string_view text) { return to_text(json::value(json::string_view(text))); }

Reader<> read_json_call(Reading& r) {
  Call call;
  co_await expect(r, "{");
  for (;;) {
    co_await skip_space(r);
    co_await read_member(r, call);
    co_await skip_space(r);
    const bool more = co_await skip_if(r, ",");
    if (!more) break;
  }
  co_await expect(r, "}");
  if (!call.open) {
    r.begin_call(call.name, call.name_begin, call.name_end);
    if (call.arguments.text.empty()) call.arguments = {"{}", r.position(), r.position()};
    r.add_arguments(call.arguments.text, call.arguments.begin, call.arguments.end);
  }
  r.end_call();
  r.commit();
}

Reader<> read_json_calls(Reading& r) {
  co_await expect(r, "[");
  for (;;) {
    co_await skip_space(r);
    co_await read_json_call(r);
    co_await skip_space(r);
    const bool more = co_await skip_if(r, ",");
    if (!more) break;
  }
  co_await expect(r, "]");
  r.commit();
}

Reader<> read_json_arguments(Reading& r) {
  JsonScanner scanner;
  for (;;) {
    const int character = co_await r.peek();
    const auto step =
        character == Reading::kEnd ? JsonScanner::Step::bad : scanner.step(static_cast<char>(character));
    if (step == JsonScanner::Step::bad) throw Malformed();
    const char byte = static_cast<char>(character);
    r.skip();
    r.add_arguments({&byte, 1}, r.position() - 1, r.position());
    if (step == JsonScanner::Step::complete) co_return;
  }
}

Reader<std::string> read_json_string(Reading& r) {
  co_await expect(r, "\"");
  std::string text = "\"";
  for (bool escaped = false;;) {
    const int character = co_await r.peek();
    if (character < 0x20 || text.size() > kFunctionNameBytes) throw Malformed();  // kEnd is negative
    r.skip();
    text += static_cast<char>(character);
    if (character == '"' && !escaped) break;
    escaped = character == '\\' && !escaped;
  }
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_string()) throw Malformed();
  co_return std::string(value.get_string());
}

Reader<> read_close(Reading& r, std::string_view text) {
  co_await skip_space(r);
  const int character = co_await r.peek();
  if (character == Reading::kEnd) co_return;
  co_await expect(r, text);
  r.commit();
}

}  // namespace neutrino::chat
