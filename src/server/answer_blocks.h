// An answer as a list of blocks (a text, a stretch of reasoning, a tool call), which is how Anthropic's and OpenAI's newer API
// write answers down. Blocks come of the pieces of a generation: pieces of one kind, and of one call, are one block.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "chat/chat_model.h"

namespace neutrino::server {

struct Block {
  enum class Kind : uint8_t { reasoning, text, call };
  Kind kind = Kind::text;
  std::string text;           // of a call: its arguments as JSON text
  std::string call_id, name;  // of a call
};

struct BlockEvent {
  enum class What : uint8_t { begin, delta, end };
  What what = What::begin;
  size_t block = 0;   // index in blocks()
  std::string delta;  // with What::delta: what came to Block::text
};

class BlockBuilder {
 public:
  // What some more of the answer does to the list, in order.
  std::vector<BlockEvent> push(const chat::GenerationChunk& chunk);
  std::vector<BlockEvent> finish();  // no more comes: ends the block that is open

  const std::vector<Block>& blocks() const { return blocks_; }

 private:
  void open(Block block, std::vector<BlockEvent>& events);
  void close(std::vector<BlockEvent>& events);
  void extend(std::string_view text, std::vector<BlockEvent>& events);
  void add_text(Block::Kind kind, std::string_view text, std::vector<BlockEvent>& events);
  void add(const chat::AnswerPiece& piece, std::vector<BlockEvent>& events);

  std::vector<Block> blocks_;
  bool open_ = false;  // the last one
};

}  // namespace neutrino::server
