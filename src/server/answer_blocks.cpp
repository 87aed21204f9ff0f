#include "server/answer_blocks.h"

#include <utility>

namespace neutrino::server {

void BlockBuilder::open(Block block, std::vector<BlockEvent>& events) {
  close(events);
  events.push_back({BlockEvent::What::begin, blocks_.size(), {}});
  blocks_.push_back(std::move(block));
  open_ = true;
}

void BlockBuilder::close(std::vector<BlockEvent>& events) {
  if (std::exchange(open_, false)) events.push_back({BlockEvent::What::end, blocks_.size() - 1, {}});
}

void BlockBuilder::extend(std::string_view text, std::vector<BlockEvent>& events) {
  if (!open_ || text.empty()) return;
  blocks_.back().text += text;
  events.push_back({BlockEvent::What::delta, blocks_.size() - 1, std::string(text)});
}

void BlockBuilder::add_text(Block::Kind kind, std::string_view text, std::vector<BlockEvent>& events) {
  if (text.empty()) return;
  if (!open_ || blocks_.back().kind != kind)
    open({.kind = kind, .text = {}, .call_id = {}, .name = {}}, events);
  extend(text, events);
}

void BlockBuilder::add(const chat::AnswerPiece& piece, std::vector<BlockEvent>& events) {
  using Kind = chat::AnswerPiece::Kind;
  switch (piece.kind) {
    case Kind::reasoning: return add_text(Block::Kind::reasoning, piece.text, events);
    case Kind::content: return add_text(Block::Kind::text, piece.text, events);
    case Kind::call_begin:
      return open({.kind = Block::Kind::call, .text = {}, .call_id = piece.call_id, .name = piece.name},
                  events);
    case Kind::call_arguments: return extend(piece.text, events);
    case Kind::call_end: return close(events);
  }
}

std::vector<BlockEvent> BlockBuilder::push(const chat::GenerationChunk& chunk) {
  std::vector<BlockEvent> events;
  if (chunk.pieces.empty()) add_text(Block::Kind::text, chunk.text, events);
  for (const chat::AnswerPiece& piece : chunk.pieces) add(piece, events);
  return events;
}

std::vector<BlockEvent> BlockBuilder::finish() {
  std::vector<BlockEvent> events;
  close(events);
  return events;
}

}  // namespace neutrino::server
