#include "engine/kv_plan.h"

#include <algorithm>
#include <limits>

#include "base/checked.h"

namespace neutrino::engine {

using compute::kBlockPositions;

namespace {

// The window of the layers that have one (they have the same one; else the largest); 0: none, or none that matters.
int64_t window_of(const compute::KvCacheShape& shape, const models::Model& model, int64_t context) {
  int64_t window = 0;
  for (const compute::KvLayer& layer : shape.layers) window = std::max(window, layer.window);
  return window < context && !model.config().recurrent ? window : 0;
}

}  // namespace

int64_t first_block_seen(int64_t window, int64_t position) {
  return window > 0 ? std::max<int64_t>(0, position - window + 1) / kBlockPositions : 0;
}

// `rows` positions and the window - 1 before them: n positions touch at most ceil((n - 1) / 32) + 1 blocks.
int64_t window_blocks(int64_t window, int64_t rows) {
  return ceil_div(window + rows - 2, kBlockPositions) + 1;
}

KvPlan::KvPlan(const models::Model& model, compute::KvType type, compute::Arithmetic arithmetic,
               const KvUse& use)
    : use_(use), type_(type) {
  compute::KvCacheShape shape = model.kv_cache_shape(1, 1);
  shape.type = type;
  const int64_t window = window_of(shape, model, use.context_tokens);
  const bool all_slide =
      std::ranges::all_of(shape.layers, [](const auto& layer) { return layer.window > 0; });
  if (window > 0 && !all_slide) shape.window_blocks = 1;  // two groups
  if (window == 0 || !all_slide) groups_.push_back({});
  // Between steps every sequence holds its window. A step adds a block for each 32 rows, and one more to every sequence whose
  // rows begin in the middle of a block.
  const int64_t context_blocks = ceil_div(use.context_tokens, kBlockPositions);
  if (window > 0)
    groups_.push_back(
        {.window = window,
         .blocks_max = use.max_sequences * std::min(context_blocks, window_blocks(window, 1) + 1) +
                       use.batch_tokens / kBlockPositions});
  for (size_t i = 0; i < groups_.size(); ++i)
    groups_[i].bytes_per_block = compute::kv_block_bytes(shape, arithmetic, static_cast<int64_t>(i));
}

int64_t KvPlan::blocks(size_t group, int64_t positions) const {
  const KvGroup& of = groups_[group];
  return of.window > 0 ? std::min(positions, of.blocks_max) : positions;
}

int64_t KvPlan::bytes(int64_t positions) const {
  int64_t bytes = 0;
  for (size_t i = 0; i < groups_.size(); ++i) bytes += blocks(i, positions) * groups_[i].bytes_per_block;
  return bytes;
}

int64_t KvPlan::positions_in(int64_t bytes) const {
  int64_t each = 0, each_beyond = 0,
          at_most = 0;  // bytes for a block of positions; where windows are served; theirs
  for (const KvGroup& group : groups_) {
    each += group.bytes_per_block;
    if (group.window == 0)
      each_beyond += group.bytes_per_block;
    else
      at_most = group.blocks_max;
  }
  const int64_t all = use_.max_sequences * ceil_div(use_.context_tokens, kBlockPositions);
  if (each == 0) return all;
  if (bytes / each < at_most || at_most == 0) return bytes / each;
  const int64_t rest = bytes - at_most * each;
  if (each_beyond > 0) return at_most + rest / each_beyond;
  return std::max(at_most, all);
}

int64_t KvPlan::tokens_max(int64_t positions) const {
  const KvGroup& group = groups_.front();
  const bool slides =
      group.window > 0 && blocks(0, positions) >= window_blocks(group.window, use_.batch_tokens);
  return slides ? std::numeric_limits<int64_t>::max() : positions * kBlockPositions;
}

compute::KvCacheShape KvPlan::shape(const models::Model& model, int64_t positions,
                                    int64_t state_slots) const {
  compute::KvCacheShape shape = model.kv_cache_shape(blocks(0, positions), state_slots);
  shape.type = type_;
  if (groups_.size() > 1) shape.window_blocks = blocks(1, positions);
  return shape;
}

}  // namespace neutrino::engine
