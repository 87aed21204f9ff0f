#include "server/responses_format.h"

#include <iterator>

namespace neutrino::server {
namespace {

constexpr std::string_view kCompleted = "completed", kIncomplete = "incomplete", kRunning = "in_progress";

std::string_view item_prefix(Block::Kind kind) {
  switch (kind) {
    case Block::Kind::reasoning: return "rs";
    case Block::Kind::text: return "msg";
    case Block::Kind::call: break;
  }
  return "fc";
}

// Unique with the answer: "msg_<the answer's digits>_1".
std::string item_id(const Answer& answer, const Block& block, size_t index) {
  return fmt::format("{}_{}_{}", item_prefix(block.kind), answer.id.substr(answer.id.find('_') + 1), index);
}

json::object part_json(const Block& block, std::string text) {
  if (block.kind == Block::Kind::reasoning) return {{"type", "reasoning_text"}, {"text", std::move(text)}};
  return {{"type", "output_text"},
          {"text", std::move(text)},
          {"annotations", json::array()},
          {"logprobs", json::array()}};
}

json::object item_json(const Answer& answer, const Block& block, size_t index, std::string_view status) {
  json::object item{{"id", item_id(answer, block, index)}};
  const bool begun = status != kRunning;
  if (block.kind == Block::Kind::call) {
    item["type"] = "function_call";
    item["call_id"] = block.call_id;
    item["name"] = block.name;
    item["arguments"] = begun ? block.text : std::string();
  } else {
    json::array content;
    if (begun) content.push_back(part_json(block, block.text));
    item["type"] = block.kind == Block::Kind::text ? "message" : "reasoning";
    if (block.kind == Block::Kind::text) item["role"] = "assistant";
    if (block.kind == Block::Kind::reasoning) item["summary"] = json::array();
    item["content"] = std::move(content);
  }
  item["status"] = status;
  return item;
}

// The last item of an answer that was cut off is incomplete itself.
json::array output_json(const Answer& answer, const std::vector<Block>& blocks, std::string_view status) {
  json::array output;
  for (size_t i = 0; i < blocks.size(); ++i)
    output.push_back(item_json(answer, blocks[i], i, i + 1 == blocks.size() ? status : kCompleted));
  return output;
}

json::object usage_of(const Answer& answer) {
  const chat::Usage usage = total_usage(answer);
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

std::string_view final_status(const Choice& choice) {
  return choice.finish_reason == chat::FinishReason::length ? kIncomplete : kCompleted;
}

json::object event_of(std::string_view type, const std::string& id, size_t index) {
  return {{"type", type}, {"item_id", id}, {"output_index", index}};
}

}  // namespace

json::object ResponsesFormat::response(const Answer& answer, std::string_view status,
                                       json::array output) const {
  const chat::SamplingParameters& sampling = answer.request->sampling;
  json::object response{{"id", answer.id},  {"object", "response"},     {"created_at", answer.created},
                        {"status", status}, {"background", false},      {"error", nullptr},
                        {"store", false},   {"truncation", "disabled"}, {"previous_response_id", nullptr}};
  response["incomplete_details"] =
      status == kIncomplete ? json::value{{"reason", "max_output_tokens"}} : json::value(nullptr);
  response["model"] = answer.request->model;
  for (const auto& [key, value] : echo_) response[key] = value;
  if (response["temperature"].is_null()) response["temperature"] = sampling.temperature;
  if (response["top_p"].is_null()) response["top_p"] = sampling.top_p;
  response["output"] = std::move(output);
  response["usage"] = status == kRunning ? json::value(nullptr) : json::value(usage_of(answer));
  return response;
}

std::vector<json::object> ResponsesFormat::numbered(std::vector<json::object> events) const {
  for (json::object& event : events) event["sequence_number"] = sequence_number_++;
  return events;
}

std::vector<json::object> ResponsesFormat::opening(const Answer& answer) const {
  std::vector<json::object> events;
  for (const char* type : {"response.created", "response.in_progress"})
    events.push_back({{"type", type}, {"response", response(answer, kRunning, {})}});
  return numbered(std::move(events));
}

std::vector<json::object> ResponsesFormat::item_events(const Answer& answer, const BlockEvent& event) const {
  const Block& block = blocks_.blocks()[event.block];
  const std::string id = item_id(answer, block, event.block);
  const bool call = block.kind == Block::Kind::call;
  const std::string_view text_events = call                              ? "response.function_call_arguments"
                                       : block.kind == Block::Kind::text ? "response.output_text"
                                                                         : "response.reasoning_text";
  std::vector<json::object> events;
  const auto add = [&](std::string_view type, std::string_view key, json::value value, bool in_part) {
    json::object& added = events.emplace_back(event_of(type, id, event.block));
    if (in_part) added["content_index"] = 0;
    added[key] = std::move(value);
  };
  const auto add_item = [&](std::string_view type, std::string_view status) {
    events.push_back({{"type", type},
                      {"output_index", event.block},
                      {"item", item_json(answer, block, event.block, status)}});
  };
  switch (event.what) {
    case BlockEvent::What::begin:
      add_item("response.output_item.added", kRunning);
      if (!call) add("response.content_part.added", "part", part_json(block, ""), true);
      break;
    case BlockEvent::What::delta:
      add(fmt::format("{}.delta", text_events), "delta", json::string(event.delta), !call);
      if (block.kind == Block::Kind::text) events.back()["logprobs"] = json::array();
      break;
    case BlockEvent::What::end:
      add(fmt::format("{}.done", text_events), call ? "arguments" : "text", json::string(block.text), !call);
      if (call) events.back()["name"] = block.name;
      if (block.kind == Block::Kind::text) events.back()["logprobs"] = json::array();
      if (!call) add("response.content_part.done", "part", part_json(block, block.text), true);
      add_item("response.output_item.done", final_status(answer.choices[0]));
      break;
  }
  return events;
}

std::vector<json::object> ResponsesFormat::events(const Answer& answer,
                                                  const std::vector<BlockEvent>& block_events) const {
  std::vector<json::object> all;
  for (const BlockEvent& event : block_events) {
    std::vector<json::object> some = item_events(answer, event);
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return numbered(std::move(all));
}

std::vector<json::object> ResponsesFormat::piece(const Answer& answer, const Choice&,
                                                 const chat::GenerationChunk& chunk) const {
  return events(answer, blocks_.push(chunk));
}

std::vector<json::object> ResponsesFormat::finish(const Answer& answer, const Choice& choice) const {
  std::vector<json::object> all = events(answer, blocks_.finish());
  const std::string_view status = final_status(choice);
  std::vector<json::object> last{
      {{"type", fmt::format("response.{}", status)},
       {"response", response(answer, status, output_json(answer, blocks_.blocks(), status))}}};
  last = numbered(std::move(last));
  all.push_back(std::move(last[0]));
  return all;
}

json::object ResponsesFormat::usage_event(const Answer&) const { return {}; }

json::object ResponsesFormat::whole(const Answer& answer) const {
  const Choice& choice = answer.choices[0];
  BlockBuilder blocks;
  blocks.push({.text = choice.text, .pieces = choice.pieces});
  const std::string_view status = final_status(choice);
  return response(answer, status, output_json(answer, blocks.blocks(), status));
}

std::string_view ResponsesFormat::event_name(const json::object& event) const {
  return event.at("type").as_string();
}

}  // namespace neutrino::server
