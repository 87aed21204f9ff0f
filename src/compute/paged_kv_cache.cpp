#include "compute/paged_kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "compute/constants.h"

namespace neutrino::compute {
namespace {

int64_t padded_head_dim(int64_t head_dim, Arithmetic arithmetic) {
  return arithmetic == Arithmetic::integer ? ceil_div(head_dim, 32) * 32 : head_dim;
}

int64_t tile_bytes(int64_t head_dim, Arithmetic arithmetic) {
  const int64_t element = arithmetic == Arithmetic::integer ? 2 : 4;
  return padded_head_dim(head_dim, arithmetic) * kBlockPositions * element;
}

int64_t total_bytes(const KvCacheShape& shape, Arithmetic arithmetic) {
  if (shape.head_dim < 1 || shape.head_dim > kHeadDimMax)
    throw make_error(ErrorCode::unimplemented, "head_dim must be 1-{}, got {}", kHeadDimMax, shape.head_dim);
  check(shape.blocks > 0 && shape.num_hidden_layers > 0 && shape.num_key_value_heads > 0,
        "an empty KV cache");
  const auto bytes = checked_mul(shape.blocks, kv_block_bytes(shape, arithmetic));
  if (!bytes)
    throw make_error(ErrorCode::invalid_argument, "a KV cache of {} blocks is too large", shape.blocks);
  return *bytes;
}

}  // namespace

int64_t kv_block_bytes(const KvCacheShape& shape, Arithmetic arithmetic) {
  return 2 * tile_bytes(shape.head_dim, arithmetic) * shape.num_key_value_heads * shape.num_hidden_layers;
}

PagedKvCache::PagedKvCache(const KvCacheShape& shape, Arithmetic arithmetic)
    : KvCache(shape),
      arithmetic_(arithmetic),
      padded_head_dim_(compute::padded_head_dim(shape.head_dim, arithmetic)),
      tile_bytes_(compute::tile_bytes(shape.head_dim, arithmetic)),
      bytes_(total_bytes(shape, arithmetic)) {
  void* memory = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw make_error(ErrorCode::resource_exhausted, "no memory for a KV cache of {} bytes", bytes_);
  madvise(memory, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
}

PagedKvCache::~PagedKvCache() { munmap(data_, static_cast<size_t>(bytes_)); }

std::byte* PagedKvCache::open_tile(int64_t layer, int64_t head, int64_t block, int64_t offset) {
  check(block >= 0 && block < shape_.blocks, "a block table names a block outside the cache");
  std::byte* tile = tiles(layer, head) + block * block_bytes();
  if (offset == 0) std::memset(tile, 0, static_cast<size_t>(2 * tile_bytes_));
  return tile;
}

void PagedKvCache::store(int64_t layer, int64_t head, int64_t block, int64_t offset, const float* key,
                         const float* value) {
  auto* floats = reinterpret_cast<float*>(open_tile(layer, head, block, offset)) + offset * shape_.head_dim;
  std::copy_n(key, shape_.head_dim, floats);
  std::copy_n(value, shape_.head_dim, floats + kBlockPositions * shape_.head_dim);
}

// K [dim / 2][32 positions][2 dims], V [position / 2][padded head_dim][2 positions].
void PagedKvCache::store(int64_t layer, int64_t head, int64_t block, int64_t offset, const uint16_t* key,
                         const uint16_t* value) {
  auto* keys = reinterpret_cast<uint16_t*>(open_tile(layer, head, block, offset));
  uint16_t* values =
      keys + padded_head_dim_ * kBlockPositions + offset / 2 * padded_head_dim_ * 2 + offset % 2;
  keys += offset * 2;
  for (int64_t d = 0; d < shape_.head_dim; ++d) {
    keys[d / 2 * kBlockPositions * 2 + d % 2] = key[d];
    values[d * 2] = value[d];
  }
}

}  // namespace neutrino::compute
