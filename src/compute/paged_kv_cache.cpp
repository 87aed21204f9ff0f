#include "compute/paged_kv_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "compute/constants.h"

namespace neutrino::compute {
namespace {

int64_t tile_width(int64_t dim, Arithmetic arithmetic) {
  return arithmetic == Arithmetic::integer ? ceil_div(dim, 32) * 32 : dim;
}

int64_t tile_bytes(int64_t dim, Arithmetic arithmetic, KvType type) {
  const int64_t elements = tile_width(dim, arithmetic) * kBlockPositions;
  if (arithmetic == Arithmetic::float32) return 4 * elements;
  return type == KvType::q8_0 ? elements + elements / 32 * static_cast<int64_t>(sizeof(float)) : 2 * elements;
}

void check_layer(const KvLayer& layer) {
  for (const int64_t dim : {layer.key_dim, layer.value_dim})
    if (dim < 1 || dim > kHeadDimMax)
      throw make_error(ErrorCode::unimplemented, "head_dim must be 1-{}, got {}", kHeadDimMax, dim);
  check(layer.num_key_value_heads > 0, "an empty KV cache");
}

std::vector<KvTiles> place_layers(const KvCacheShape& shape, Arithmetic arithmetic) {
  std::vector<KvTiles> places;
  int64_t offsets[kKvGroups] = {};
  for (const KvLayer& layer : shape.layers) {
    check_layer(layer);
    const int64_t group = kv_group(shape, layer);
    int64_t& offset = offsets[group];
    places.push_back({.group = group,
                      .heads = layer.num_key_value_heads,
                      .key_dim = layer.key_dim,
                      .value_dim = layer.value_dim,
                      .key_width = tile_width(layer.key_dim, arithmetic),
                      .value_width = tile_width(layer.value_dim, arithmetic),
                      .key_bytes = tile_bytes(layer.key_dim, arithmetic, shape.type),
                      .value_bytes = tile_bytes(layer.value_dim, arithmetic, shape.type),
                      .offset = offset,
                      .block_stride = kv_block_bytes(shape, arithmetic, group)});
    offset += (places.back().key_bytes + places.back().value_bytes) * layer.num_key_value_heads;
  }
  return places;
}

// Where a position's dimensions stand: K [dim / 2][32 positions][2 dims], V [position / 2][padded value_dim][2 positions].
auto key_index(int64_t position) {
  return [=](int64_t d) { return d / 2 * kBlockPositions * 2 + position * 2 + d % 2; };
}
auto value_index(const KvTiles& place, int64_t position) {
  return [first = position / 2 * place.value_width * 2 + position % 2](int64_t d) { return first + d * 2; };
}

uint16_t encode_f16(float x) {
  if (std::abs(x) < kF16Min) return 0;
  return f32_to_f16(std::isnan(x) ? x : std::clamp(x, -kF16Max, kF16Max));
}

// 32 dimensions with one scale. A value that is not finite makes all of them NaN.
template <typename Index>
void store_q8_0(const float* x, int64_t first, int64_t count, int8_t* q, float* scale, Index at) {
  float largest = 0;
  bool finite = true;
  for (int64_t d = first; d < first + count; ++d) {
    finite = finite && std::isfinite(x[d]);
    largest = std::max(largest, std::abs(x[d]));
  }
  const bool some = finite && largest >= kActivationTiny;
  *scale = !finite ? std::nanf("") : some ? largest / 127 : 0;
  const float inverse = some ? 127 / largest : 0;
  for (int64_t d = first; d < first + count; ++d)
    q[at(d)] = finite ? static_cast<int8_t>(std::nearbyint(x[d] * inverse)) : int8_t{1};
}

template <typename Index>
void store_encoded(KvType type, std::byte* tile, const float* x, int64_t dim, Index at, int64_t position) {
  if (type != KvType::q8_0) {
    auto* halves = reinterpret_cast<uint16_t*>(tile);
    for (int64_t d = 0; d < dim; ++d)
      halves[at(d)] = type == KvType::f16 ? encode_f16(x[d]) : f32_to_bf16(x[d]);
    return;
  }
  auto* scales = reinterpret_cast<float*>(tile + ceil_div(dim, 32) * 32 * kBlockPositions);
  for (int64_t d = 0; d < dim; d += 32)
    store_q8_0(x, d, std::min<int64_t>(32, dim - d), reinterpret_cast<int8_t*>(tile),
               scales + d / 32 * kBlockPositions + position, at);
}

float load_element(KvType type, const std::byte* tile, int64_t width, int64_t index, int64_t position,
                   int64_t d) {
  const auto* halves = reinterpret_cast<const uint16_t*>(tile);
  if (type == KvType::bf16) return bf16_to_f32(halves[index]);
  if (type == KvType::f16) return f16_to_f32(halves[index]);
  const auto* scales = reinterpret_cast<const float*>(tile + width * kBlockPositions);
  return scales[d / 32 * kBlockPositions + position] *
         static_cast<float>(reinterpret_cast<const int8_t*>(tile)[index]);
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

int64_t kv_block_bytes(const KvCacheShape& shape, Arithmetic arithmetic, int64_t group) {
  int64_t bytes = 0;
  for (const KvLayer& layer : shape.layers)
    if (kv_group(shape, layer) == group)
      bytes += (tile_bytes(layer.key_dim, arithmetic, shape.type) +
                tile_bytes(layer.value_dim, arithmetic, shape.type)) *
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
      state_bytes_(state_slot_bytes(shape)) {
  int64_t offset = 0;
  for (const int64_t state : shape.states) state_offsets_.push_back(offset), offset += state;
  const int64_t blocks[kKvGroups] = {shape.blocks, shape.window_blocks};
  try {
    for (int64_t g = 0; g < kKvGroups; ++g) {
      Group& group = groups_[static_cast<size_t>(g)];
      group = {.blocks = blocks[g], .stride = kv_block_bytes(shape, arithmetic, g)};
      group.data = map_pages(group.blocks, group.stride, "KV blocks");
      bytes_ += group.blocks * group.stride;
    }
    states_ = map_pages(shape.state_slots, state_bytes_, "state slots");
  } catch (...) {
    unmap();
    throw;
  }
  bytes_ += shape.state_slots * state_bytes_;
  check(shape.blocks > 0 && bytes_ > 0, "an empty KV cache");
}

PagedKvCache::~PagedKvCache() { unmap(); }

void PagedKvCache::unmap() {
  for (const Group& group : groups_)
    if (group.data) munmap(group.data, static_cast<size_t>(group.blocks * group.stride));
  if (states_) munmap(states_, static_cast<size_t>(shape_.state_slots * state_bytes_));
}

namespace {

// Bytes of a mapping that are in memory; as many as it has where the kernel does not say.
int64_t resident_bytes(const std::byte* data, int64_t bytes) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> pages(static_cast<size_t>(ceil_div(bytes, page)));
  if (mincore(const_cast<std::byte*>(data), static_cast<size_t>(bytes), pages.data()) != 0) return bytes;
  const auto count = std::ranges::count_if(pages, [](unsigned char state) { return (state & 1) != 0; });
  return std::min<int64_t>(count * page, bytes);
}

int64_t give_back(std::byte* data, int64_t bytes) {
  if (!data || bytes == 0) return 0;
  const int64_t resident = resident_bytes(data, bytes);
  return madvise(data, static_cast<size_t>(bytes), MADV_DONTNEED) == 0 ? resident : 0;
}

}  // namespace

int64_t PagedKvCache::release_pages() {
  int64_t released = give_back(states_, shape_.state_slots * state_bytes_);
  for (const Group& group : groups_) released += give_back(group.data, group.blocks * group.stride);
  return released;
}

std::span<std::byte> PagedKvCache::block(int64_t group, int32_t block) {
  const Group& place = groups_[static_cast<size_t>(group)];
  check(block >= 0 && block < place.blocks, "a block outside the cache");
  return {place.data + block * place.stride, static_cast<size_t>(place.stride)};
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

void PagedKvCache::copy_block(int64_t group, int32_t from, int32_t to) {
  const std::span<std::byte> source = block(group, from), target = block(group, to);
  if (from != to) std::memcpy(target.data(), source.data(), source.size());
}

float* PagedKvCache::state(int32_t slot, int64_t layer) const {
  check_slot(slot);
  return reinterpret_cast<float*>(states_ + slot * state_bytes_) + state_offsets_[static_cast<size_t>(layer)];
}

std::byte* PagedKvCache::open_tile(int64_t layer, int64_t head, int64_t block, int64_t offset) {
  const KvTiles& place = this->layer(layer);
  check(block >= 0 && block < groups_[static_cast<size_t>(place.group)].blocks,
        "a block table names a block outside the cache");
  std::byte* tile = tiles(layer, head) + block * place.block_stride;
  if (offset == 0) std::memset(tile, 0, static_cast<size_t>(place.key_bytes + place.value_bytes));
  return tile;
}

void PagedKvCache::store(int64_t layer, int64_t head, int64_t block, int64_t offset, const float* key,
                         const float* value) {
  const KvTiles& place = this->layer(layer);
  std::byte* const tile = open_tile(layer, head, block, offset);
  if (arithmetic_ == Arithmetic::integer) {
    store_encoded(shape_.type, tile, key, place.key_dim, key_index(offset), offset);
    store_encoded(shape_.type, tile + place.key_bytes, value, place.value_dim, value_index(place, offset),
                  offset);
    return;
  }
  auto* keys = reinterpret_cast<float*>(tile);
  std::copy_n(key, place.key_dim, keys + offset * place.key_dim);
  std::copy_n(value, place.value_dim, keys + kBlockPositions * place.key_dim + offset * place.value_dim);
}

void PagedKvCache::store(int64_t layer, int64_t head, int64_t block, int64_t offset, const uint16_t* key,
                         const uint16_t* value) {
  const KvTiles& place = this->layer(layer);
  auto* keys = reinterpret_cast<uint16_t*>(open_tile(layer, head, block, offset));
  uint16_t* values = keys + place.key_width * kBlockPositions;
  const auto at_key = key_index(offset);
  const auto at_value = value_index(place, offset);
  for (int64_t d = 0; d < place.key_dim; ++d) keys[at_key(d)] = key[d];
  for (int64_t d = 0; d < place.value_dim; ++d) values[at_value(d)] = value[d];
}

float PagedKvCache::key(const KvTiles& place, const std::byte* tile, int64_t position, int64_t d) const {
  return load_element(shape_.type, tile, place.key_width, key_index(position)(d), position, d);
}

float PagedKvCache::value(const KvTiles& place, const std::byte* tile, int64_t position, int64_t d) const {
  return load_element(shape_.type, tile + place.key_bytes, place.value_width, value_index(place, position)(d),
                      position, d);
}

}  // namespace neutrino::compute
