// The JSON of answers: what chat and text completions share, and the two formats.
#pragma once

#include <string>
#include <string_view>

#include "server/inference.h"

namespace neutrino::server {

chat::Usage total_usage(const Answer& answer);      // a prompt counts once, however many choices it has
chat::Timings total_timings(const Answer& answer);  // the slowest choice of each phase
std::string_view finish_name(const Choice& choice);
json::object usage_json(const Answer& answer);
json::value stop_reason_json(const Choice& choice);
json::array ids_json(const std::vector<int32_t>& ids);
json::array ids_json(const std::vector<chat::GeneratedToken>& tokens);

// "id", "object", "created", "model", "system_fingerprint".
json::object answer_head(const Answer& answer, std::string_view object);
// Usage and the like, as the request's options ask, at the end of an event.
void add_event_tail(json::object& event, const Answer& answer);
void add_timings(json::object& body, const Answer& answer);

// The text of a token for a logprobs object: valid UTF-8, or "token_id:17" if the request wants that.
std::string token_label(const chat::ChatModel& model, int32_t token, const OutputOptions& output);
json::value logprob_json(float logprob);  // NaN is null; the lowest finite number for -infinity

std::string header_text(std::string_view text);  // printable ASCII, bounded: fit for a header
std::string valid_utf8(std::string_view bytes);

class ChatFormat final : public AnswerFormat {
 public:
  explicit ChatFormat(const chat::ChatModel& model) : model_(model) {}
  std::string_view id_prefix() const override { return "chatcmpl-"; }
  std::vector<json::object> opening(const Answer& answer) const override;
  std::vector<json::object> piece(const Answer& answer, const Choice& choice,
                                  const chat::GenerationChunk& piece) const override;
  std::vector<json::object> finish(const Answer& answer, const Choice& choice) const override;
  json::object usage_event(const Answer& answer) const override;
  json::object whole(const Answer& answer) const override;

 private:
  json::value logprobs(const Answer& answer, const Choice& choice,
                       const std::vector<chat::GeneratedToken>& tokens) const;
  json::object event(const Answer& answer, const Choice& choice, json::object delta,
                     json::value logprobs) const;
  const chat::ChatModel& model_;
};

class CompletionFormat final : public AnswerFormat {
 public:
  CompletionFormat(const chat::ChatModel& model, bool echo) : model_(model), echo_(echo) {}
  std::string_view id_prefix() const override { return "cmpl-"; }
  std::vector<json::object> opening(const Answer& answer) const override;
  std::vector<json::object> piece(const Answer& answer, const Choice& choice,
                                  const chat::GenerationChunk& piece) const override;
  std::vector<json::object> finish(const Answer& answer, const Choice& choice) const override;
  json::object usage_event(const Answer& answer) const override;
  json::object whole(const Answer& answer) const override;

 private:
  class LogprobsBuilder;
  json::object event(const Answer& answer, const Choice& choice, std::string_view text,
                     json::value logprobs) const;
  const chat::ChatModel& model_;
  bool echo_;
};

}  // namespace neutrino::server
