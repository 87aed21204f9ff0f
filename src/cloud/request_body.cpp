#include "cloud/request_body.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/json.h"

namespace neutrino::cloud {
namespace {

[[noreturn]] void refuse(size_t at, std::string_view expected) {
  throw make_error(ErrorCode::invalid_argument, "the body is not a JSON object: expected {} at byte {}",
                   expected, at)
      .with_reason("invalid_json");
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  size_t at() const { return at_; }
  bool ended() const { return at_ == text_.size(); }
  char peek() const { return ended() ? '\0' : text_[at_]; }

  void skip_blanks() {
    while (!ended() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
  }
  bool take(char c) {
    if (peek() != c || ended()) return false;
    return ++at_, true;
  }
  void expect(char c) {
    if (!take(c)) refuse(at_, std::string_view(&c, 1));
  }

  void skip_string() {
    expect('"');
    for (;;) {
      const size_t next = text_.find_first_of("\"\\", at_);
      if (next == std::string_view::npos || next + 1 > text_.size()) refuse(text_.size(), "the string's end");
      at_ = next + (text_[next] == '"' ? 1 : 2);
      if (at_ > text_.size()) refuse(text_.size(), "the string's end");
      if (text_[next] == '"') return;
    }
  }

  void skip_value() {
    if (peek() == '"') return skip_string();
    if (peek() == '{' || peek() == '[') return skip_nested();
    const size_t begin = at_;
    while (!ended() && std::string_view(",}] \t\r\n").find(peek()) == std::string_view::npos) ++at_;
    if (at_ == begin) refuse(at_, "a value");
  }

 private:
  void skip_nested() {
    std::string open;
    do {
      const size_t next = text_.find_first_of("\"{}[]", at_);
      if (next == std::string_view::npos) refuse(text_.size(), "a closing bracket");
      at_ = next;
      const char c = peek();
      if (c == '"') {
        skip_string();
        continue;
      }
      if (c == '{' || c == '[') {
        open.push_back(c == '{' ? '}' : ']');
        if (static_cast<int64_t>(open.size()) > limits::kJsonDepth) refuse(at_, "less depth");
      } else {
        if (c != open.back()) refuse(at_, std::string_view(&open.back(), 1));
        open.pop_back();
      }
      ++at_;
    } while (!open.empty());
  }

  std::string_view text_;
  size_t at_ = 0;
};

std::string decoded(std::string_view quoted) {
  if (quoted.find('\\') == std::string_view::npos) return std::string(quoted.substr(1, quoted.size() - 2));
  const json::value value = parse_json(quoted);
  return std::string(value.as_string());
}

}  // namespace

RequestBody::RequestBody(std::string_view text) : text_(text) {
  Reader reader(text);
  reader.skip_blanks();
  reader.expect('{');
  first_ = reader.at();
  reader.skip_blanks();
  for (bool more = !reader.take('}'); more;) {
    const size_t key = reader.at();
    reader.skip_string();
    std::string name = decoded(text.substr(key, reader.at() - key));
    if (find(name)) refuse(key, "each member once");
    if (static_cast<int64_t>(members_.size()) >= limits::kHeaderFields * 10) refuse(key, "fewer members");
    reader.skip_blanks();
    reader.expect(':');
    reader.skip_blanks();
    const size_t begin = reader.at();
    reader.skip_value();
    members_.push_back({std::move(name), begin, reader.at()});
    reader.skip_blanks();
    more = reader.take(',');
    if (!more) reader.expect('}');
    reader.skip_blanks();
  }
  reader.skip_blanks();
  if (!reader.ended()) refuse(reader.at(), "the end");
}

const RequestBody::Member* RequestBody::find(std::string_view name) const {
  for (const Member& member : members_)
    if (member.name == name) return &member;
  return nullptr;
}

std::string_view RequestBody::raw(std::string_view name) const {
  const Member* member = find(name);
  return member ? text_.substr(member->begin, member->end - member->begin) : std::string_view();
}

std::string RequestBody::text(std::string_view name) const {
  const std::string_view value = raw(name);
  return value.starts_with('"') ? decoded(value) : std::string();
}

std::optional<int64_t> RequestBody::integer(std::string_view name) const {
  const std::string_view value = raw(name);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (value.empty() || error != std::errc() || end != value.data() + value.size()) return std::nullopt;
  return number;
}

std::string RequestBody::with(std::vector<Change> changes) const {
  std::string front;
  std::vector<std::pair<const Member*, const Change*>> replaced;
  for (const Change& change : changes) {
    if (const Member* member = find(change.name))
      replaced.emplace_back(member, &change);
    else
      front += fmt::format("\"{}\":{}{}", change.name, change.value, members_.empty() ? "" : ",");
  }
  std::sort(replaced.begin(), replaced.end(),
            [](const auto& a, const auto& b) { return a.first->begin < b.first->begin; });
  std::string result(text_.substr(0, first_));
  result.reserve(text_.size() + front.size() + 64);
  result += front;
  size_t at = first_;
  for (const auto& [member, change] : replaced) {
    result.append(text_.substr(at, member->begin - at)).append(change->value);
    at = member->end;
  }
  return result.append(text_.substr(at));
}

}  // namespace neutrino::cloud
