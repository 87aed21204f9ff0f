// chat.completion and chat.completion.chunk.
#include "server/answer_json.h"

namespace neutrino::server {
namespace {

json::array bytes_json(const std::string& bytes) {
  json::array array;
  for (const char byte : bytes) array.emplace_back(static_cast<unsigned char>(byte));
  return array;
}

json::object token_json(const chat::ChatModel& model, int32_t token, float logprob,
                        const OutputOptions& output) {
  json::object entry;
  entry["token"] = token_label(model, token, output);
  entry["logprob"] = logprob_json(logprob);
  entry["bytes"] = bytes_json(model.token_text(token));
  return entry;
}

}  // namespace

json::value ChatFormat::logprobs(const Answer& answer, const Choice& choice,
                                 const std::vector<chat::GeneratedToken>& tokens) const {
  if (!choice.sampling.logprobs) return nullptr;
  const OutputOptions& output = answer.request->output;
  json::array content;
  for (const chat::GeneratedToken& token : tokens) {
    json::object entry = token_json(model_, token.token, token.logprob, output);
    json::array top;
    for (const chat::TokenLogprob& other : token.top)
      top.push_back(token_json(model_, other.token, other.logprob, output));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  json::object result;
  result["content"] = std::move(content);
  result["refusal"] = nullptr;
  return result;
}

json::object ChatFormat::event(const Answer& answer, const Choice& choice, json::object delta,
                               json::value logprobs) const {
  json::object entry;
  entry["index"] = choice.index;
  entry["delta"] = std::move(delta);
  entry["logprobs"] = std::move(logprobs);
  entry["finish_reason"] = nullptr;
  json::object event = answer_head(answer, "chat.completion.chunk");
  event["choices"] = json::array();
  event["choices"].as_array().push_back(std::move(entry));
  add_event_tail(event, answer);
  return event;
}

std::vector<json::object> ChatFormat::opening(const Answer& answer) const {
  std::vector<json::object> events;
  for (const Choice& choice : answer.choices)
    events.push_back(event(answer, choice, {{"role", "assistant"}, {"content", ""}}, nullptr));
  if (answer.request->output.token_ids) events[0]["prompt_token_ids"] = ids_json(answer.choices[0].prompt);
  return events;
}

std::vector<json::object> ChatFormat::piece(const Answer& answer, const Choice& choice,
                                            const chat::GenerationChunk& piece) const {
  json::object result =
      event(answer, choice, {{"content", piece.text}}, logprobs(answer, choice, piece.tokens));
  if (answer.request->output.token_ids)
    result["choices"].as_array()[0].as_object()["token_ids"] = ids_json(piece.tokens);
  return {std::move(result)};
}

std::vector<json::object> ChatFormat::finish(const Answer& answer, const Choice& choice) const {
  json::object result = event(answer, choice, {}, nullptr);
  json::object& entry = result["choices"].as_array()[0].as_object();
  entry["finish_reason"] = finish_name(choice);
  entry["stop_reason"] = stop_reason_json(choice);
  return {std::move(result)};
}

json::object ChatFormat::usage_event(const Answer& answer) const {
  json::object event = answer_head(answer, "chat.completion.chunk");
  event["choices"] = json::array();
  event["usage"] = usage_json(answer);
  add_timings(event, answer);
  return event;
}

json::object ChatFormat::whole(const Answer& answer) const {
  const bool token_ids = answer.request->output.token_ids;
  json::array choices;
  for (const Choice& choice : answer.choices) {
    json::object entry;
    entry["index"] = choice.index;
    entry["message"] = json::object{{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    entry["logprobs"] = logprobs(answer, choice, choice.tokens);
    entry["finish_reason"] = finish_name(choice);
    entry["stop_reason"] = stop_reason_json(choice);
    if (token_ids) entry["token_ids"] = ids_json(choice.tokens);
    choices.push_back(std::move(entry));
  }
  json::object body = answer_head(answer, "chat.completion");
  body["choices"] = std::move(choices);
  body["usage"] = usage_json(answer);
  if (token_ids) body["prompt_token_ids"] = ids_json(answer.choices[0].prompt);
  add_timings(body, answer);
  return body;
}

}  // namespace neutrino::server
