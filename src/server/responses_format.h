// Answers in the shape of OpenAI's Responses API: a response of output items, or the events that build it.
#pragma once

#include "server/answer_blocks.h"
#include "server/answer_json.h"

namespace neutrino::server {

// For one request: it follows the items of its answer.
class ResponsesFormat final : public AnswerFormat {
 public:
  explicit ResponsesFormat(json::object echo) : echo_(std::move(echo)) {}
  std::string_view id_prefix() const override { return "resp_"; }
  std::vector<json::object> opening(const Answer& answer) const override;
  std::vector<json::object> piece(const Answer& answer, const Choice& choice,
                                  const chat::GenerationChunk& chunk) const override;
  std::vector<json::object> finish(const Answer& answer, const Choice& choice) const override;
  json::object usage_event(const Answer& answer) const override;
  json::object whole(const Answer& answer) const override;
  std::string_view event_name(const json::object& event) const override;
  bool ends_with_done() const override { return false; }

 private:
  json::object response(const Answer& answer, std::string_view status, json::array output) const;
  std::vector<json::object> numbered(std::vector<json::object> events) const;
  std::vector<json::object> item_events(const Answer& answer, const BlockEvent& event) const;
  std::vector<json::object> events(const Answer& answer, const std::vector<BlockEvent>& events) const;

  json::object echo_;                    // what an answer repeats of its request
  mutable BlockBuilder blocks_;          // of the answer's only choice, as far as it was told
  mutable int64_t sequence_number_ = 0;  // of the next event
};

}  // namespace neutrino::server
