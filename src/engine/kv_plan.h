// How the KV memory is divided.
//
// Most layers keep the keys and values of all positions; one with a sliding window needs only those that the next token still
// sees. So a model has one or two groups of layers, each with blocks of its own: those that keep everything, and those that
// keep their window. Their numbers follow from one: the blocks of positions that all sequences may have together. The first group
// has so many blocks; the windowed one too, but never more than `max_sequences` can hold in it at once. So it does not run out
// before the first does, and with every context full both run out together.
//
// A window that reaches over the whole context is none, and a recurrent model keeps everything (no such model has windows).
#pragma once

#include <cstdint>
#include <vector>

#include "compute/backend.h"
#include "models/model.h"

namespace neutrino::engine {

struct KvGroup {
  int64_t window = 0;           // 0: keeps every position; else position p sees those in (p - window, p]
  int64_t bytes_per_block = 0;  // over all its layers
  int64_t blocks_max = 0;       // of a windowed group: what all sequences together hold at most
};

// What the KV memory is for.
struct KvUse {
  int64_t context_tokens = 0, max_sequences = 0, batch_tokens = 0;
};

class KvPlan {
 public:
  KvPlan(const models::Model& model, compute::KvType type, compute::Arithmetic arithmetic, const KvUse& use);

  // One, or two: first the layers that keep everything.
  const std::vector<KvGroup>& groups() const { return groups_; }
  const KvUse& use() const { return use_; }

  // `positions`: blocks of positions that all sequences may have together.
  int64_t blocks(size_t group, int64_t positions) const;
  int64_t bytes(int64_t positions) const;
  int64_t positions_in(int64_t bytes) const;    // the most that these bytes hold; may be 0
  int64_t tokens_max(int64_t positions) const;  // that one sequence may have, as far as blocks are concerned
  compute::KvCacheShape shape(const models::Model& model, int64_t positions, int64_t state_slots) const;

 private:
  KvUse use_;
  compute::KvType type_;
  std::vector<KvGroup> groups_;
};

// The first block that the token at `position` sees.
int64_t first_block_seen(int64_t window, int64_t position);
// Blocks that a sequence holds at most in a windowed group while `rows` of its rows are computed, however they lie.
int64_t window_blocks(int64_t window, int64_t rows);

}  // namespace neutrino::engine
