// text_completion, whole and in pieces. With echo the prompt comes first: at once when its text is all that is wanted, with the
// first piece when its logprobs are.
#include <algorithm>
#include <cmath>

#include "server/answer_json.h"

namespace neutrino::server {
namespace {

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool is_first(const Choice& choice, const chat::GenerationChunk& piece) {
  return choice.tokens.size() == piece.tokens.size();
}

}  // namespace

// OpenAI's parallel arrays. text_offset counts characters from the start of the text that is sent.
class CompletionFormat::LogprobsBuilder {
 public:
  LogprobsBuilder(const chat::ChatModel& model, const OutputOptions& output, int64_t offset)
      : model_(model), output_(output), offset_(offset) {}

  void add(const chat::GeneratedToken& token) {
    const std::string label = token_label(model_, token.token, output_);
    json::value top = nullptr;
    if (!std::isnan(token.logprob)) {
      json::object& entries = top.emplace_object();
      for (const chat::TokenLogprob& other : token.top)
        entries[token_label(model_, other.token, output_)] = logprob_json(other.logprob);
      entries[label] = logprob_json(token.logprob);
    }
    tokens_.emplace_back(json::string_view(label));
    token_logprobs_.push_back(logprob_json(token.logprob));
    top_logprobs_.push_back(std::move(top));
    text_offset_.emplace_back(offset_);
    offset_ += characters(token.text);
  }

  json::object take() {
    json::object result;
    result["tokens"] = std::move(tokens_);
    result["token_logprobs"] = std::move(token_logprobs_);
    result["top_logprobs"] = std::move(top_logprobs_);
    result["text_offset"] = std::move(text_offset_);
    return result;
  }

 private:
  const chat::ChatModel& model_;
  const OutputOptions& output_;
  int64_t offset_;
  json::array tokens_, token_logprobs_, top_logprobs_, text_offset_;
};

json::object CompletionFormat::event(const Answer& answer, const Choice& choice, std::string_view text,
                                     json::value logprobs) const {
  json::object entry;
  entry["index"] = choice.index;
  entry["text"] = text;
  entry["logprobs"] = std::move(logprobs);
  entry["finish_reason"] = nullptr;
  json::object event = answer_head(answer, "text_completion");
  event["choices"] = json::array();
  event["choices"].as_array().push_back(std::move(entry));
  add_event_tail(event, answer);
  return event;
}

std::vector<json::object> CompletionFormat::opening(const Answer& answer) const {
  std::vector<json::object> events;
  for (const Choice& choice : answer.choices)
    if (echo_ && !choice.sampling.prompt_logprobs)
      events.push_back(event(answer, choice, choice.prompt_text, nullptr));
  return events;
}

std::vector<json::object> CompletionFormat::piece(const Answer& answer, const Choice& choice,
                                                  const chat::GenerationChunk& piece) const {
  const OutputOptions& output = answer.request->output;
  const bool with_prompt = !piece.prompt_tokens.empty();
  json::value logprobs = nullptr;
  if (choice.sampling.logprobs) {
    int64_t offset = 0;
    if (!with_prompt) {
      if (echo_) offset = characters(choice.prompt_text);
      for (size_t i = 0; i < choice.tokens.size() - piece.tokens.size(); ++i)
        offset += characters(choice.tokens[i].text);
    }
    LogprobsBuilder builder(model_, output, offset);
    for (const auto& token : piece.prompt_tokens) builder.add(token);
    for (const auto& token : piece.tokens) builder.add(token);
    logprobs = builder.take();
  }
  const std::string text = (with_prompt && echo_ ? choice.prompt_text : "") + piece.text;
  json::object result = event(answer, choice, text, std::move(logprobs));
  if (output.token_ids) {
    json::object& entry = result["choices"].as_array()[0].as_object();
    if (is_first(choice, piece)) entry["prompt_token_ids"] = ids_json(choice.prompt);
    entry["token_ids"] = ids_json(piece.tokens);
  }
  return {std::move(result)};
}

std::vector<json::object> CompletionFormat::finish(const Answer& answer, const Choice& choice) const {
  json::object result = event(answer, choice, "", nullptr);
  json::object& entry = result["choices"].as_array()[0].as_object();
  entry["finish_reason"] = finish_name(choice);
  entry["stop_reason"] = stop_reason_json(choice);
  return {std::move(result)};
}

json::object CompletionFormat::usage_event(const Answer& answer) const {
  json::object event = answer_head(answer, "text_completion");
  event["choices"] = json::array();
  event["usage"] = usage_json(answer);
  add_timings(event, answer);
  return event;
}

json::object CompletionFormat::whole(const Answer& answer) const {
  const OutputOptions& output = answer.request->output;
  json::array choices;
  for (const Choice& choice : answer.choices) {
    json::object entry;
    entry["index"] = choice.index;
    entry["text"] = (echo_ ? choice.prompt_text : "") + choice.text;
    entry["logprobs"] = nullptr;
    if (choice.sampling.logprobs) {
      LogprobsBuilder builder(model_, output, 0);
      for (const auto& token : choice.prompt_tokens) builder.add(token);
      for (const auto& token : choice.tokens) builder.add(token);
      entry["logprobs"] = builder.take();
    }
    entry["finish_reason"] = finish_name(choice);
    entry["stop_reason"] = stop_reason_json(choice);
    if (output.token_ids) {
      entry["prompt_token_ids"] = ids_json(choice.prompt);
      entry["token_ids"] = ids_json(choice.tokens);
    }
    choices.push_back(std::move(entry));
  }
  json::object body = answer_head(answer, "text_completion");
  body["choices"] = std::move(choices);
  body["usage"] = usage_json(answer);
  add_timings(body, answer);
  return body;
}

}  // namespace neutrino::server
