// The storage behind KvCache, the same for every backend: zeroed pages,
// [block][layer][kv head][K tile | V tile], so that memory is taken as blocks come into use.
#pragma once

#include <cstddef>
#include <memory>

#include "compute/backend.h"

namespace neutrino::compute {

class PagedKvCache final : public KvCache {
 public:
  PagedKvCache(const KvCacheShape& shape, Arithmetic arithmetic);  // throws Error where memory cannot be had
  ~PagedKvCache() override;
  PagedKvCache(const PagedKvCache&) = delete;
  PagedKvCache& operator=(const PagedKvCache&) = delete;

  int64_t bytes() const override { return bytes_; }
  Arithmetic arithmetic() const { return arithmetic_; }
  int64_t padded_head_dim() const { return padded_head_dim_; }  // the tiles' width
  int64_t tile_bytes() const { return tile_bytes_; }            // of K; V stands behind it and is as large
  int64_t block_bytes() const { return kv_block_bytes(shape_, arithmetic_); }

  // The K tile of block 0; block b's is b * block_bytes() further.
  std::byte* tiles(int64_t layer, int64_t head) const {
    return data_ + 2 * (layer * shape_.num_key_value_heads + head) * tile_bytes_;
  }

  // Write one position's key and value (head_dim elements each), in bfloat16 for integer arithmetic. The first position of
  // a block zeroes the block's tiles first: what an earlier owner left behind, a NaN above all, must not reach a product
  // with a zero probability.
  void store(int64_t layer, int64_t head, int64_t block, int64_t offset, const uint16_t* key,
             const uint16_t* value);
  void store(int64_t layer, int64_t head, int64_t block, int64_t offset, const float* key,
             const float* value);

 private:
  std::byte* open_tile(int64_t layer, int64_t head, int64_t block, int64_t offset);

  Arithmetic arithmetic_;
  int64_t padded_head_dim_;
  int64_t tile_bytes_;
  int64_t bytes_;
  std::byte* data_;
};

}  // namespace neutrino::compute
