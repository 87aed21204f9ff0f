#include "server/answer_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "tokenizer/stream_decoder.h"

namespace neutrino::server {

chat::Usage total_usage(const Answer& answer) {
  chat::Usage total{.completion_tokens = answer.other_usage.completion_tokens,
                    .reasoning_tokens = answer.other_usage.reasoning_tokens};
  std::set<size_t> seen;
  for (const Choice& choice : answer.choices) {
    total.completion_tokens += choice.usage.completion_tokens;
    total.reasoning_tokens += choice.usage.reasoning_tokens;
    if (!seen.insert(choice.prompt_index).second) continue;
    total.prompt_tokens += static_cast<int64_t>(choice.prompt.size());
    total.cached_tokens += choice.usage.cached_tokens;
  }
  return total;
}

chat::Timings total_timings(const Answer& answer) {
  chat::Timings total;
  for (const Choice& choice : answer.choices) {
    total.queue_ms = std::max(total.queue_ms, choice.timings.queue_ms);
    total.prefill_ms = std::max(total.prefill_ms, choice.timings.prefill_ms);
    total.decode_ms = std::max(total.decode_ms, choice.timings.decode_ms);
  }
  return total;
}

std::string_view finish_name(const Choice& choice) {
  if (choice.finish_reason == chat::FinishReason::length) return "length";
  return choice.tool_calls.empty() ? "stop" : "tool_calls";
}

json::object usage_json(const Answer& answer) {
  const chat::Usage usage = total_usage(answer);
  json::object result;
  result["prompt_tokens"] = usage.prompt_tokens;
  result["completion_tokens"] = usage.completion_tokens;
  result["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  result["prompt_tokens_details"] = json::object{{"cached_tokens", usage.cached_tokens}};
  result["completion_tokens_details"] = json::object{{"reasoning_tokens", usage.reasoning_tokens}};
  return result;
}

json::value stop_reason_json(const Choice& choice) {
  const std::string& reason = choice.stop_reason;
  if (reason.empty()) return nullptr;
  const auto& strings = choice.sampling.stop;
  int64_t token = 0;
  const auto [end, error] = std::from_chars(reason.data(), reason.data() + reason.size(), token);
  const bool number = error == std::errc() && end == reason.data() + reason.size();
  if (number && std::find(strings.begin(), strings.end(), reason) == strings.end()) return token;
  return json::string(reason);
}

json::array ids_json(const std::vector<int32_t>& ids) { return json::array(ids.begin(), ids.end()); }

json::array ids_json(const std::vector<chat::GeneratedToken>& tokens) {
  json::array ids;
  for (const chat::GeneratedToken& token : tokens) ids.emplace_back(token.token);
  return ids;
}

json::object answer_head(const Answer& answer, std::string_view object) {
  json::object head;
  head["id"] = answer.id;
  head["object"] = object;
  head["created"] = answer.created;
  head["model"] = answer.request->model;
  head["system_fingerprint"] = answer.fingerprint;
  return head;
}

void add_event_tail(json::object& event, const Answer& answer) {
  const OutputOptions& output = answer.request->output;
  if (output.continuous_usage)
    event["usage"] = usage_json(answer);
  else if (output.include_usage)
    event["usage"] = nullptr;
}

void add_timings(json::object& body, const Answer& answer) {
  if (!answer.request->output.timings) return;
  const chat::Timings timings = total_timings(answer);
  body["timings"] = json::object{
      {"queue_ms", timings.queue_ms}, {"prefill_ms", timings.prefill_ms}, {"decode_ms", timings.decode_ms}};
}

std::string valid_utf8(std::string_view bytes) {
  std::string held, text;
  tokenizer::append_utf8(held, bytes, text);
  if (!held.empty()) text += "\xEF\xBF\xBD";
  return text;
}

std::string token_label(const chat::ChatModel& model, int32_t token, const OutputOptions& output) {
  if (output.tokens_as_ids) return fmt::format("token_id:{}", token);
  return valid_utf8(model.token_text(token));
}

json::value logprob_json(float logprob) {
  if (std::isnan(logprob)) return nullptr;
  if (std::isinf(logprob)) return -9999.0;
  double shortest = logprob;  // the shortest decimal that means this float, not all the digits of its double
  const std::string digits = fmt::format("{}", logprob);
  std::from_chars(digits.data(), digits.data() + digits.size(), shortest);
  return shortest;
}

std::string header_text(std::string_view text) {
  std::string result(text.substr(0, 1024));
  std::replace_if(result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

}  // namespace neutrino::server
