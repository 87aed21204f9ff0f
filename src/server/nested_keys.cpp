#include "server/nested_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "net/schema.h"

namespace neutrino::server {
namespace {

// "tools" and their functions are not here: templates get them whole. The last keys of a message are what answers hold and nothing
// is lost with: clients send an answer's message back as it was.
constexpr auto kKeys = std::to_array<ReadKeys>({
    {"messages[]",
     "role content name reasoning_content reasoning tool_calls tool_call_id refusal annotations audio "
     "function_call"},
    {"messages[].content[]", "type text"},
    {"messages[].tool_calls[]", "id type function index"},
    {"messages[].tool_calls[].function", "name arguments"},
    {"thinking", "type budget_tokens"},
    {"tool_choice", "type function"},
    {"tool_choice.function", "name"},
    {"response_format", "type json_schema schema structures triggers format"},
    {"response_format.json_schema", "name description schema strict"},
});

constexpr size_t kNamedMost = 200;  // the header that names them has no room for more

bool is_word_of(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const size_t space = words.find(' ');
    if (words.substr(0, space) == word) return true;
    words = space == std::string_view::npos ? std::string_view() : words.substr(space + 1);
  }
  return false;
}

void note_keys(const json::object& object, const ReadKeys& read, std::vector<std::string>& ignored) {
  for (const auto& [key, value] : object) {
    if (ignored.size() >= kNamedMost) return;
    if (value.is_null() || is_word_of(read.keys, key)) continue;
    std::string path = fmt::format("{}.{:.40}", read.path, std::string_view(key));
    if (std::ranges::find(ignored, path) == ignored.end()) ignored.push_back(std::move(path));
  }
}

// `rest`: of the path, from here on.
void note_at(const json::value& value, std::string_view rest, const ReadKeys& read,
             std::vector<std::string>& ignored) {
  if (rest.starts_with("[]")) {
    rest.remove_prefix(2);
    if (!value.is_array()) return;
    for (const json::value& item : value.get_array()) note_at(item, rest, read, ignored);
    return;
  }
  if (!value.is_object()) return;
  if (rest.empty()) return note_keys(value.get_object(), read, ignored);
  if (rest.starts_with('.')) rest.remove_prefix(1);
  const size_t end = std::min(rest.find_first_of(".["), rest.size());
  if (const auto* next = net::find(value.get_object(), rest.substr(0, end)))
    note_at(*next, rest.substr(end), read, ignored);
}

}  // namespace

const std::span<const ReadKeys> kChatKeys = kKeys;

void note_unread_keys(const json::object& body, std::span<const ReadKeys> table,
                      std::vector<std::string>& ignored) {
  for (const ReadKeys& read : table) {
    const size_t end = std::min(read.path.find_first_of(".["), read.path.size());
    if (const auto* value = net::find(body, read.path.substr(0, end)))
      note_at(*value, read.path.substr(end), read, ignored);
  }
}

}  // namespace neutrino::server
