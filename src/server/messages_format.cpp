#include "server/messages_format.h"

#include <algorithm>

namespace neutrino::server {
namespace {

// A tool call's arguments as the object that they are; text that was cut off is told as such.
json::value call_input(const std::string& arguments) {
  if (arguments.empty()) return json::object();
  try {
    return parse_json(arguments);
  } catch (const Error&) {
    return json::object{{"_incomplete_json", arguments}};
  }
}

json::object block_json(const Block& block) {
  switch (block.kind) {
    case Block::Kind::reasoning: return {{"type", "thinking"}, {"thinking", block.text}, {"signature", ""}};
    case Block::Kind::text: return {{"type", "text"}, {"text", block.text}};
    case Block::Kind::call: break;
  }
  return {
      {"type", "tool_use"}, {"id", block.call_id}, {"name", block.name}, {"input", call_input(block.text)}};
}

json::object delta_json(const Block& block, std::string text) {
  switch (block.kind) {
    case Block::Kind::reasoning: return {{"type", "thinking_delta"}, {"thinking", std::move(text)}};
    case Block::Kind::text: return {{"type", "text_delta"}, {"text", std::move(text)}};
    case Block::Kind::call: break;
  }
  return {{"type", "input_json_delta"}, {"partial_json", std::move(text)}};
}

json::object event_json(const BlockBuilder& blocks, BlockEvent event) {
  const Block& block = blocks.blocks()[event.block];
  switch (event.what) {
    case BlockEvent::What::begin:
      return {{"type", "content_block_start"},
              {"index", event.block},
              {"content_block",
               block_json({.kind = block.kind, .text = {}, .call_id = block.call_id, .name = block.name})}};
    case BlockEvent::What::delta:
      return {{"type", "content_block_delta"},
              {"index", event.block},
              {"delta", delta_json(block, std::move(event.delta))}};
    case BlockEvent::What::end: break;
  }
  return {{"type", "content_block_stop"}, {"index", event.block}};
}

std::vector<json::object> events_json(const BlockBuilder& blocks, std::vector<BlockEvent> events) {
  std::vector<json::object> result;
  for (BlockEvent& event : events) result.push_back(event_json(blocks, std::move(event)));
  return result;
}

// Anthropic counts what came from the cache apart from the rest of the prompt.
json::object usage_of(const Answer& answer) {
  const chat::Usage usage = total_usage(answer);
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.completion_tokens}};
}

bool stopped_by_text(const Choice& choice) {
  const auto& strings = choice.sampling.stop;
  return std::find(strings.begin(), strings.end(), choice.stop_reason) != strings.end();
}

std::string_view stop_reason(const Choice& choice, const BlockBuilder& blocks) {
  if (choice.finish_reason == chat::FinishReason::length) return "max_tokens";
  if (stopped_by_text(choice)) return "stop_sequence";
  const bool calls = std::ranges::any_of(blocks.blocks(),
                                         [](const Block& block) { return block.kind == Block::Kind::call; });
  return calls ? "tool_use" : "end_turn";
}

void add_stop(json::object& to, const Choice& choice, const BlockBuilder& blocks) {
  to["stop_reason"] = stop_reason(choice, blocks);
  to["stop_sequence"] =
      stopped_by_text(choice) ? json::value(json::string(choice.stop_reason)) : json::value(nullptr);
}

json::object message_head(const Answer& answer) {
  return {{"id", answer.id}, {"type", "message"}, {"role", "assistant"}, {"model", answer.request->model}};
}

}  // namespace

std::vector<json::object> MessagesFormat::opening(const Answer& answer) const {
  json::object message = message_head(answer);
  message["content"] = json::array();
  message["stop_reason"] = nullptr;
  message["stop_sequence"] = nullptr;
  message["usage"] = usage_of(answer);
  return {{{"type", "message_start"}, {"message", std::move(message)}}, {{"type", "ping"}}};
}

std::vector<json::object> MessagesFormat::piece(const Answer&, const Choice&,
                                                const chat::GenerationChunk& chunk) const {
  return events_json(blocks_, blocks_.push(chunk));
}

std::vector<json::object> MessagesFormat::finish(const Answer& answer, const Choice& choice) const {
  std::vector<json::object> events = events_json(blocks_, blocks_.finish());
  json::object delta;
  add_stop(delta, choice, blocks_);
  events.push_back({{"type", "message_delta"}, {"delta", std::move(delta)}, {"usage", usage_of(answer)}});
  events.push_back({{"type", "message_stop"}});
  return events;
}

json::object MessagesFormat::usage_event(const Answer&) const { return {{"type", "ping"}}; }

json::object MessagesFormat::whole(const Answer& answer) const {
  const Choice& choice = answer.choices[0];
  BlockBuilder blocks;
  blocks.push({.text = choice.text, .pieces = choice.pieces});
  json::array content;
  for (const Block& block : blocks.blocks()) content.push_back(block_json(block));
  json::object message = message_head(answer);
  message["content"] = std::move(content);
  add_stop(message, choice, blocks);
  message["usage"] = usage_of(answer);
  return message;
}

std::string_view MessagesFormat::event_name(const json::object& event) const {
  return event.at("type").as_string();
}

}  // namespace neutrino::server
