#include "cloud/answer_meter.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

constexpr std::string_view kUsage = "\"usage\"";

int64_t number(const json::object& from, std::string_view name) {
  const json::value* value = from.if_contains(name);
  return value && value->is_int64() ? std::max<int64_t>(value->get_int64(), 0) : -1;
}

int64_t nested(const json::object& from, std::string_view outer, std::string_view name) {
  const json::value* value = from.if_contains(outer);
  return value && value->is_object() ? number(value->get_object(), name) : -1;
}

void take(int64_t& into, int64_t value) {
  if (value >= 0) into = value;
}

// What the APIs call them; an event may bring only some.
void take_usage(const json::object& from, TokenUsage& usage) {
  take(usage.input, number(from, "prompt_tokens"));
  take(usage.output, number(from, "completion_tokens"));
  take(usage.output, number(from, "output_tokens"));
  take(usage.cached, nested(from, "prompt_tokens_details", "cached_tokens"));
  take(usage.cached, nested(from, "input_tokens_details", "cached_tokens"));
  take(usage.reasoning, nested(from, "completion_tokens_details", "reasoning_tokens"));
  take(usage.reasoning, nested(from, "output_tokens_details", "reasoning_tokens"));
  const int64_t input = number(from, "input_tokens");
  const int64_t read = number(from, "cache_read_input_tokens");  // Anthropic counts these beside the others
  take(usage.cached, read);
  if (input >= 0) usage.input = input + std::max<int64_t>(read, 0);
}

std::string_view skip_blanks(std::string_view text) {
  const size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos ? std::string_view() : text.substr(at);
}

// The object behind a name, which stands as `"name"` in no string: there its quotes would be escaped.
std::string_view object_behind(std::string_view text, size_t name_end) {
  std::string_view rest = skip_blanks(text.substr(name_end));
  if (!rest.starts_with(':')) return {};
  rest = skip_blanks(rest.substr(1));
  if (!rest.starts_with('{')) return {};
  int64_t depth = 0;
  for (size_t i = 0; i < rest.size(); ++i) {  // usage has no strings with brackets in them
    if (rest[i] == '{') ++depth;
    if (rest[i] == '}' && --depth == 0) return rest.substr(0, i + 1);
  }
  return {};
}

std::string_view event_data(std::string_view event) {
  const size_t at = event.starts_with("data:") ? 0 : event.find("\ndata:");
  if (at == std::string_view::npos) return {};
  const std::string_view rest = event.substr(at + (at == 0 ? 5 : 6));
  return skip_blanks(rest.substr(0, rest.find('\n')));
}

size_t event_end(std::string_view text, size_t from) {  // behind the empty line; npos: it has not come
  for (size_t at = text.find('\n', from); at != std::string_view::npos; at = text.find('\n', at + 1)) {
    if (at + 1 < text.size() && text[at + 1] == '\n') return at + 2;
    if (at + 2 < text.size() && text[at + 1] == '\r' && text[at + 2] == '\n') return at + 3;
  }
  return std::string_view::npos;
}

}  // namespace

std::string_view AnswerMeter::feed(std::string_view piece) {
  if (form_ != AnswerForm::whole) return feed_events(piece);
  const auto tail = static_cast<size_t>(limits::kUsageTailBytes);
  pending_.append(piece);
  if (pending_.size() > 2 * tail) pending_.erase(0, pending_.size() - tail);
  return piece;
}

std::string_view AnswerMeter::feed_events(std::string_view piece) {
  out_.clear();
  const bool plain = pending_.empty();
  if (!plain) pending_.append(piece);
  const std::string_view text = plain ? piece : std::string_view(pending_);
  size_t at = 0;
  bool all = true;
  for (size_t end = event_end(text, at); end != std::string_view::npos; end = event_end(text, at)) {
    const std::string_view event = text.substr(at, end - at);
    if (!keep_event(event)) {
      if (all) out_.assign(text.substr(0, at));
      all = false;
    } else if (!all) {
      out_.append(event);
    }
    at = end;
  }
  if (plain && all && at == piece.size()) return piece;  // nothing to hold back, nothing to take out
  if (all) out_.assign(text.substr(0, at));
  std::string rest(text.substr(at));
  if (static_cast<int64_t>(rest.size()) > limits::kEventBytes) out_.append(std::exchange(rest, {}));
  pending_ = std::move(rest);
  return out_;
}

std::string_view AnswerMeter::finish() {
  if (form_ != AnswerForm::whole) {
    out_ = std::exchange(pending_, {});
    return out_;
  }
  const size_t at = pending_.rfind(kUsage);
  if (at != std::string::npos) read_usage(object_behind(pending_, at + kUsage.size()));
  return {};
}

bool AnswerMeter::keep_event(std::string_view event) {
  const std::string_view data = event_data(event);
  if (data.empty() || data.starts_with("[DONE]")) return true;
  ++events_;
  const size_t usage = data.find(kUsage);
  if (usage == std::string_view::npos || object_behind(data, usage + kUsage.size()).empty()) return true;
  read_event_usage(data);
  const bool bare = data.find("\"choices\":[]") != std::string_view::npos ||
                    data.find("\"choices\": []") != std::string_view::npos;
  if (!bare) return true;
  --events_;
  return form_ != AnswerForm::events_without_usage;
}

// In the event itself, or in the `response` or `message` that it carries: nowhere else.
void AnswerMeter::read_event_usage(std::string_view data) {
  try {
    const json::value event = parse_json(data);
    if (!event.is_object()) return;
    for (const std::string_view carrier : {"", "response", "message"}) {
      const json::value* from = carrier.empty() ? &event : event.get_object().if_contains(carrier);
      const json::value* usage =
          from && from->is_object() ? from->get_object().if_contains("usage") : nullptr;
      if (!usage || !usage->is_object()) continue;
      take_usage(usage->get_object(), usage_);
      has_usage_ = true;
    }
  } catch (const Error&) {  // an event that is not JSON brings no usage
  }
}

void AnswerMeter::read_usage(std::string_view object) {
  if (object.empty()) return;
  try {
    take_usage(parse_json(object).as_object(), usage_);
    has_usage_ = true;
  } catch (const Error&) {
  }
}

}  // namespace neutrino::cloud
