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

json::object call_json(const ToolCall& call) {
  json::object function;
  function["name"] = call.name;
  function["arguments"] = call.arguments;
  json::object result;
  result["id"] = call.id;
  result["type"] = "function";
  result["function"] = std::move(function);
  return result;
}

// More of one tool call, in a delta's list.
void add_call(json::object& delta, json::object call) {
  if (!delta.contains("tool_calls")) delta["tool_calls"] = json::array();
  delta["tool_calls"].as_array().push_back(std::move(call));
}

void add_arguments(json::object& delta, const chat::AnswerPiece& piece) {
  if (delta.contains("tool_calls")) {
    json::object& last = delta["tool_calls"].as_array().back().as_object();
    if (last.at("index").to_number<int64_t>() == piece.call) {
      json::string& arguments = last["function"].as_object()["arguments"].as_string();
      arguments += piece.text;
      return;
    }
  }
  add_call(delta, {{"index", piece.call}, {"function", json::object{{"arguments", piece.text}}}});
}

void append(json::object& delta, std::string_view name, std::string_view text) {
  if (!delta.contains(name)) delta[name] = "";
  delta[name].as_string() += text;
}

void add_piece(json::object& delta, const chat::AnswerPiece& piece, bool with_reasoning) {
  switch (piece.kind) {
    case chat::AnswerPiece::Kind::reasoning:
      if (!with_reasoning) return;
      append(delta, "reasoning_content", piece.text);
      append(delta, "reasoning", piece.text);
      return;
    case chat::AnswerPiece::Kind::content: append(delta, "content", piece.text); return;
    case chat::AnswerPiece::Kind::call_begin: {
      json::object call = call_json({piece.call_id, piece.name, {}});
      json::object indexed = {{"index", piece.call}};
      for (auto& [key, value] : call) indexed[key] = std::move(value);
      add_call(delta, std::move(indexed));
      return;
    }
    case chat::AnswerPiece::Kind::call_arguments: add_arguments(delta, piece); return;
    case chat::AnswerPiece::Kind::call_end: return;
  }
}

// Content is null where there are tool calls alone. Reasoning goes by both of its names.
json::object message_json(const Choice& choice, bool with_reasoning) {
  json::object message;
  message["role"] = "assistant";
  message["content"] =
      choice.text.empty() && !choice.tool_calls.empty() ? json::value(nullptr) : json::value(choice.text);
  message["refusal"] = nullptr;
  if (with_reasoning && !choice.reasoning.empty()) {
    message["reasoning_content"] = choice.reasoning;
    message["reasoning"] = choice.reasoning;
  }
  if (choice.tool_calls.empty()) return message;
  json::array& calls = message["tool_calls"].emplace_array();
  for (const ToolCall& call : choice.tool_calls) calls.push_back(call_json(call));
  return message;
}

}  // namespace

json::value ChatFormat::logprobs(const Answer& answer, const Choice& choice,
                                 const std::vector<chat::GeneratedToken>& tokens) const {
  if (!choice.sampling.logprobs) return nullptr;
  const OutputOptions& output = answer.request->output;
  json::array content;
  for (const chat::GeneratedToken& token : tokens) {
    if (token.part != chat::TokenPart::content) continue;
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
  json::object delta;
  for (const chat::AnswerPiece& part : piece.pieces) add_piece(delta, part, answer.request->output.reasoning);
  json::object result = event(answer, choice, std::move(delta), logprobs(answer, choice, piece.tokens));
  if (answer.request->output.token_ids)
    result["choices"].as_array()[0].as_object()["token_ids"] = ids_json(piece.tokens);
  return {std::move(result)};
}

std::vector<json::object> ChatFormat::finish(const Answer& answer, const Choice& choice) const {
  json::object result = event(answer, choice, {}, nullptr);
  json::object& entry = result["choices"].as_array()[0].as_object();
  entry["finish_reason"] = finish_name(choice);
  entry["stop_reason"] = stop_reason_json(choice);
  if (answer.selection) result["reasoning"] = *answer.selection;
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
    entry["message"] = message_json(choice, answer.request->output.reasoning);
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
  if (answer.selection) body["reasoning"] = *answer.selection;
  add_timings(body, answer);
  return body;
}

}  // namespace neutrino::server
