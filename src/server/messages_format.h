// Answers in the shape of Anthropic's Messages API: one message of content blocks, or the events that build it.
#pragma once

#include "server/answer_blocks.h"
#include "server/answer_json.h"

namespace neutrino::server {

// For one request: it follows the blocks of its answer.
class MessagesFormat final : public AnswerFormat {
 public:
  std::string_view id_prefix() const override { return "msg_"; }
  std::vector<json::object> opening(const Answer& answer) const override;
  std::vector<json::object> piece(const Answer& answer, const Choice& choice,
                                  const chat::GenerationChunk& chunk) const override;
  std::vector<json::object> finish(const Answer& answer, const Choice& choice) const override;
  json::object usage_event(const Answer& answer) const override;
  json::object whole(const Answer& answer) const override;
  std::string_view event_name(const json::object& event) const override;
  bool ends_with_done() const override { return false; }

 private:
  mutable BlockBuilder blocks_;  // of the answer's only choice, as far as it was told
};

}  // namespace neutrino::server
