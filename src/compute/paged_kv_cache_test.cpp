// Blocks of keys and values: a copy has all layers of its group, and touches no other block.
#include "compute/paged_kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace neutrino::compute {
namespace {

TEST(PagedKvCache, ACopiedBlockHasTheBytesOfAllLayersOfItsGroup) {
  KvCacheShape shape = uniform_kv_cache(3, 2, 16, 4);
  shape.layers[1].window = 40;  // a group of its own
  shape.window_blocks = 3;
  PagedKvCache cache(shape, Arithmetic::integer);
  std::vector<uint16_t> key(16), value(16);
  for (int64_t layer = 0; layer < 3; ++layer)
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t position = 0; position < 32; ++position) {
        std::ranges::fill(key, static_cast<uint16_t>(1 + layer * 100 + head * 50 + position));
        std::ranges::fill(value, static_cast<uint16_t>(1000 + layer * 100 + head * 50 + position));
        cache.store(layer, head, 1, position, key.data(), value.data());
      }
  for (const int64_t group : {0, 1}) {
    const auto source = cache.block(group, 1), target = cache.block(group, 2);
    EXPECT_FALSE(std::ranges::equal(source, target)) << group;
    cache.copy_block(group, 1, 2);
    EXPECT_TRUE(std::ranges::equal(source, target)) << group;
    EXPECT_TRUE(std::ranges::all_of(cache.block(group, 0), [](std::byte b) { return b == std::byte{0}; }));
    const KvTiles& place = cache.layer(group == 0 ? 2 : 1);
    const std::byte* tile = cache.tiles(group == 0 ? 2 : 1, 1) + 2 * place.block_stride;
    EXPECT_EQ(cache.key(place, tile, 31, 3), cache.key(place, tile - place.block_stride, 31, 3));
  }
}

}  // namespace
}  // namespace neutrino::compute
