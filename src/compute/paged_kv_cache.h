// The storage behind KvCache, the same for every backend: zeroed pages,
// [block][layer][kv head][K tile | V tile] for each group of layers, so that memory is taken as blocks come into use; and
// beside them the recurrent states, [slot][layer].
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "compute/backend.h"

namespace neutrino::compute {

// Where one layer's tiles stand in a block of its group, and their size.
struct KvTiles {
  int64_t group = 0;  // kv_group()
  int64_t heads = 0;
  int64_t key_dim = 0, value_dim = 0;
  int64_t key_width = 0, value_width = 0;  // with padding
  int64_t key_bytes = 0, value_bytes = 0;  // of a tile; V stands behind K
  int64_t offset = 0;                      // of head 0's K tile in a block
  int64_t block_stride = 0;  // of all layers of the group: block b + 1's tiles stand so much further than b's
};

class PagedKvCache final : public KvCache {
 public:
  PagedKvCache(const KvCacheShape& shape, Arithmetic arithmetic);  // throws Error where memory cannot be had
  ~PagedKvCache() override;
  PagedKvCache(const PagedKvCache&) = delete;
  PagedKvCache& operator=(const PagedKvCache&) = delete;

  int64_t bytes() const override { return bytes_; }
  void clear_state(int32_t slot) override;
  void copy_state(int32_t from, int32_t to) override;
  void copy_block(int64_t group, int32_t from, int32_t to) override;

  // Gives the pages of all blocks and states back to the operating system, and with them their contents: they are zeros then.
  // Returns the bytes that were in memory.
  int64_t release_pages();
  // All layers' tiles of a block: what is copied to keep it elsewhere. Its size is the group's kv_block_bytes().
  std::span<std::byte> block(int64_t group, int32_t block);

  Arithmetic arithmetic() const { return arithmetic_; }
  bool has_bf16() const { return arithmetic_ == Arithmetic::integer && shape_.type == KvType::bf16; }
  const KvTiles& layer(int64_t layer) const { return layers_[static_cast<size_t>(layer)]; }

  // The K tile of block 0; block b's is b * layer(layer).block_stride further.
  std::byte* tiles(int64_t layer, int64_t head) const {
    const KvTiles& place = this->layer(layer);
    return groups_[static_cast<size_t>(place.group)].data + place.offset +
           head * (place.key_bytes + place.value_bytes);
  }

  // One layer's recurrent state in a slot: shape().states[layer] floats.
  float* state(int32_t slot, int64_t layer) const;

  // Write one position's key and value (key_dim and value_dim elements); as bfloat16 if has_bf16(). The first position of a
  // block zeroes the block's tiles first: what an earlier owner left behind, a NaN above all, must not reach a
  // product with a zero probability.
  void store(int64_t layer, int64_t head, int64_t block, int64_t offset, const uint16_t* key,
             const uint16_t* value);
  void store(int64_t layer, int64_t head, int64_t block, int64_t offset, const float* key,
             const float* value);

  // One element of a tile in integer arithmetic, as float32.
  float key(const KvTiles& place, const std::byte* tile, int64_t position, int64_t d) const;
  float value(const KvTiles& place, const std::byte* tile, int64_t position, int64_t d) const;

 private:
  std::byte* open_tile(int64_t layer, int64_t head, int64_t block, int64_t offset);
  void check_slot(int32_t slot) const;
  void unmap();

  struct Group {
    int64_t blocks = 0, stride = 0;  // bytes from one block to the next
    std::byte* data = nullptr;
  };

  Arithmetic arithmetic_;
  std::vector<KvTiles> layers_;
  std::array<Group, kKvGroups> groups_;
  std::vector<int64_t> state_offsets_;  // floats, of each layer in a slot
  int64_t state_bytes_;                 // of one slot
  int64_t bytes_ = 0;
  std::byte* states_ = nullptr;  // slots
};

}  // namespace neutrino::compute
