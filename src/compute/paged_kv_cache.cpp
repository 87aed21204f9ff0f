#include "compute/paged_kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "compute/constants.h"

namespace neutrino::compute {
namespace {

int64_t tile_width(int64_t dim, Arithmetic arithmetic) {
  return arithmetic == Arithmetic::integer ? ceil_div(dim, 32) * 32 : dim;
}

int64_t tile_bytes(int64_t dim, Arithmetic arithmetic) {
  const int64_t element = arithmetic == Arithmetic::integer ? 2 : 4;
  return tile_width(dim, arithmetic) * kBlockPositions * element;
}

void check_layer(const KvLayer& layer) {
  for (const int64_t dim : {layer.key_dim, layer.value_dim})
    if (dim < 1 || dim > kHeadDimMax)
      throw make_error(ErrorCode::unimplemented, "head_dim must be 1-{}, got {}", kHeadDimMax, dim);
  check(layer.num_key_value_heads > 0, "an empty KV cache");
}

std::vector<KvTiles> place_layers(const KvCacheShape& shape, Arithmetic arithmetic) {
  std::vector<KvTiles> places;
  int64_t offset = 0;
  for (const KvLayer& layer : shape.layers) {
    check_layer(layer);
    places.push_back({.heads = layer.num_key_value_heads,
                      .key_dim = layer.key_dim,
                      .value_dim = layer.value_dim,
                      .key_width = tile_width(layer.key_dim, arithmetic),
                      .value_width = tile_width(layer.value_dim, arithmetic),
                      .key_bytes = tile_bytes(layer.key_dim, arithmetic),
                      .value_bytes = tile_bytes(layer.value_dim, arithmetic),
                      .offset = offset});
    offset += (places.back().key_bytes + places.back().value_bytes) * layer.num_key_value_heads;
  }
  return places;
}

// count * bytes of zeroed pages, taken as they are touched; null for nothing.
std::byte* map_pages(int64_t count, int64_t bytes, std::string_view what) {
  const auto total = checked_mul(count, bytes);
  if (!total) throw make_error(ErrorCode::invalid_argument, "{} {} are too large", count, what);
  if (*total == 0) return nullptr;
  void* memory = mmap(nullptr, static_cast<size_t>(*total), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw make_error(ErrorCode::resource_exhausted, "no memory for {} {} ({} bytes)", count, what, *total);
  madvise(memory, static_cast<size_t>(*total), MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

}  // namespace

KvCacheShape uniform_kv_cache(int64_t layers, int64_t num_key_value_heads, int64_t head_dim, int64_t blocks) {
  const KvLayer layer = {
      .num_key_value_heads = num_key_value_heads, .key_dim = head_dim, .value_dim = head_dim};
  return {.layers = std::vector<KvLayer>(static_cast<size_t>(layers), layer), .blocks = blocks};
}

int64_t kv_block_bytes(const KvCacheShape& shape, Arithmetic arithmetic) {
  int64_t bytes = 0;
  for (const KvLayer& layer : shape.layers)
    bytes += (tile_bytes(layer.key_dim, arithmetic) + tile_bytes(layer.value_dim, arithmetic)) *
             layer.num_key_value_heads;
  return bytes;
}

int64_t state_slot_bytes(const KvCacheShape& shape) {
  int64_t floats = 0;
  for (const int64_t state : shape.states) floats += state;
  return floats * static_cast<int64_t>(sizeof(float));
}

PagedKvCache::PagedKvCache(const KvCacheShape& shape, Arithmetic arithmetic)
    : KvCache(shape),
      arithmetic_(arithmetic),
      layers_(place_layers(shape, arithmetic)),
      block_bytes_(kv_block_bytes(shape, arithmetic)),
      state_bytes_(state_slot_bytes(shape)) {
  check(shape.blocks > 0 && (block_bytes_ > 0 || state_bytes_ > 0), "an empty KV cache");
  int64_t offset = 0;
  for (const int64_t state : shape.states) state_offsets_.push_back(offset), offset += state;
  data_ = map_pages(shape.blocks, block_bytes_, "KV blocks");
  try {
    states_ = map_pages(shape.state_slots, state_bytes_, "state slots");
  } catch (...) {
    if (data_) munmap(data_, static_cast<size_t>(shape.blocks * block_bytes_));
    throw;
  }
  bytes_ = shape.blocks * block_bytes_ + shape.state_slots * state_bytes_;
}

PagedKvCache::~PagedKvCache() {
  if (data_) munmap(data_, static_cast<size_t>(shape_.blocks * block_bytes_));
  if (states_) munmap(states_, static_cast<size_t>(shape_.state_slots * state_bytes_));
}

void PagedKvCache::check_slot(int32_t slot) const {
  check(slot >= 0 && slot < shape_.state_slots, "a state slot outside the cache");
}

void PagedKvCache::clear_state(int32_t slot) {
  check_slot(slot);
  if (state_bytes_ > 0) std::memset(states_ + slot * state_bytes_, 0, static_cast<size_t>(state_bytes_));
}

void PagedKvCache::copy_state(int32_t from, int32_t to) {
  check_slot(from), check_slot(to);
  if (from != to && state_bytes_ > 0)
    std::memcpy(states_ + to * state_bytes_, states_ + from * state_bytes_,
                static_cast<size_t>(state_bytes_));
}

float* PagedKvCache::state(int32_t slot, int64_t layer) const {
  check_slot(slot);
  return reinterpret_cast<float*>(states_ + slot * state_bytes_) + state_offsets_[static_cast<size_t>(layer)];
}

std::byte* PagedKvCache::open_tile(int64_t layer, int64_t head, int64_t block, int64_t offset) {
  check(block >= 0 && block < shape_.blocks, "a block table names a block outside the cache");
  const KvTiles& place = this->layer(layer);
  std::byte* tile = tiles(layer, head) + block * block_bytes_;
  if (offset == 0) std::memset(tile, 0, static_cast<size_t>(place.key_bytes + place.value_bytes));
  return tile;
}

void PagedKvCache::store(int64_t layer, int64_t head, int64_t block, int64_t offset, const float* key,
                         const float* value) {
  const KvTiles& place = this->layer(layer);
  auto* keys = reinterpret_cast<float*>(open_tile(layer, head, block, offset));
  std::copy_n(key, place.key_dim, keys + offset * place.key_dim);
  std::copy_n(value, place.value_dim, keys + kBlockPositions * place.key_dim + offset * place.value_dim);
}

// K [dim / 2][32 positions][2 dims], V [position / 2][padded value_dim][2 positions].
void PagedKvCache::store(int64_t layer, int64_t head, int64_t block, int64_t offset, const uint16_t* key,
                         const uint16_t* value) {
  const KvTiles& place = this->layer(layer);
  auto* keys = reinterpret_cast<uint16_t*>(open_tile(layer, head, block, offset));
  uint16_t* values =
      keys + place.key_width * kBlockPositions + offset / 2 * place.value_width * 2 + offset % 2;
  keys += offset * 2;
  for (int64_t d = 0; d < place.key_dim; ++d) keys[d / 2 * kBlockPositions * 2 + d % 2] = key[d];
  for (int64_t d = 0; d < place.value_dim; ++d) values[d * 2] = value[d];
}

}  // namespace neutrino::compute
