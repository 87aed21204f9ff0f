// Reads the tokens used out of an answer while it passes through: a JSON body, or server-sent events of chat, completions, responses
// and Anthropic's messages.
//
// The gateway asks a stream for its usage where the client did not; then the event that brings it is taken out again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace neutrino::cloud {

struct TokenUsage {
  int64_t input = 0;  // cached ones included
  int64_t cached = 0;
  int64_t output = 0;  // reasoning included
  int64_t reasoning = 0;
};

enum class AnswerForm : uint8_t { whole, events, events_without_usage };

class AnswerMeter {
 public:
  explicit AnswerMeter(AnswerForm form) : form_(form) {}

  // Takes the next bytes of the answer, gives what goes to the client now; valid until the next call and while `piece` is. An event
  // goes on when it is whole.
  std::string_view feed(std::string_view piece);
  std::string_view finish();  // what was held back at the end, and the usage of a whole answer

  bool has_usage() const { return has_usage_; }
  const TokenUsage& usage() const { return usage_; }
  int64_t events() const { return events_; }  // that carried something: about one a token

 private:
  bool keep_event(std::string_view event);  // reads it
  void read_usage(std::string_view object);
  void read_event_usage(std::string_view data);
  std::string_view feed_events(std::string_view piece);

  AnswerForm form_;
  std::string pending_;  // an event's beginning, or a whole answer's end
  std::string out_;
  TokenUsage usage_;
  bool has_usage_ = false;
  int64_t events_ = 0;
};

}  // namespace neutrino::cloud
