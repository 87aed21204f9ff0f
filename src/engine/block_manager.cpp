#include "engine/block_manager.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace neutrino::engine {

BlockManager::BlockManager(int64_t blocks, PrefixCache prefix_cache)
    : prefix_cache_(prefix_cache),
      blocks_(static_cast<size_t>(blocks)),
      slots_(std::bit_ceil(static_cast<size_t>(blocks) * 2), -1),
      counts_{.free = blocks} {
  check(blocks > 0, "a KV cache needs at least one block");
  for (int64_t block = blocks - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
}

std::optional<int32_t> BlockManager::find(const Sha256Digest& name) {
  if (!keeps_names()) return std::nullopt;
  const int32_t block = slots_[find_slot(name)];
  if (block < 0) return std::nullopt;
  if (blocks_[static_cast<size_t>(block)].references++ == 0) {
    unlink(block);
    --counts_.cached;
    ++counts_.referenced;
  }
  return block;
}

std::optional<int32_t> BlockManager::holder(const Sha256Digest& name) const {
  const int32_t block = keeps_names() ? slots_[find_slot(name)] : -1;
  return block >= 0 ? std::optional(block) : std::nullopt;
}

std::optional<int32_t> BlockManager::allocate() {
  int32_t block = oldest_;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
    --counts_.free;
  } else if (block >= 0) {
    unlink(block);
    erase_name(block);
    --counts_.cached;
    ++evictions_;
  } else {
    return std::nullopt;
  }
  blocks_[static_cast<size_t>(block)].references = 1;
  ++counts_.referenced;
  return block;
}

void BlockManager::set_name(int32_t block, const Sha256Digest& name) {
  Block& entry = blocks_[static_cast<size_t>(block)];
  if (!keeps_names() || entry.named) return;
  const size_t slot = find_slot(name);
  if (slots_[slot] >= 0) return;
  slots_[slot] = block;
  entry.name = name;
  entry.named = true;
}

void BlockManager::release(int32_t block) {
  Block& entry = blocks_[static_cast<size_t>(block)];
  check(entry.references > 0, "released a KV block that nobody holds");
  if (--entry.references > 0) return;
  --counts_.referenced;
  if (entry.named) {
    link_newest(block);
    ++counts_.cached;
  } else {
    free_.push_back(block);
    ++counts_.free;
  }
}

void BlockManager::forget_cached() {
  while (oldest_ >= 0) {
    const int32_t block = oldest_;
    unlink(block);
    erase_name(block);
    --counts_.cached;
    free_.push_back(block);
    ++counts_.free;
  }
}

void BlockManager::link_newest(int32_t block) {
  Block& entry = blocks_[static_cast<size_t>(block)];
  entry.older = newest_;
  entry.newer = -1;
  (newest_ >= 0 ? blocks_[static_cast<size_t>(newest_)].newer : oldest_) = block;
  newest_ = block;
}

void BlockManager::unlink(int32_t block) {
  const Block& entry = blocks_[static_cast<size_t>(block)];
  (entry.older >= 0 ? blocks_[static_cast<size_t>(entry.older)].newer : oldest_) = entry.newer;
  (entry.newer >= 0 ? blocks_[static_cast<size_t>(entry.newer)].older : newest_) = entry.older;
}

size_t BlockManager::home_slot(const Sha256Digest& name) const {
  uint64_t bits;
  std::memcpy(&bits, name.data(), sizeof bits);
  return bits & (slots_.size() - 1);
}

size_t BlockManager::find_slot(const Sha256Digest& name) const {
  size_t slot = home_slot(name);
  while (slots_[slot] >= 0 && blocks_[static_cast<size_t>(slots_[slot])].name != name)
    slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

// Linear probing without tombstones: the entries after the hole move up when the hole lies between their home and them.
void BlockManager::erase_name(int32_t block) {
  Block& entry = blocks_[static_cast<size_t>(block)];
  const size_t mask = slots_.size() - 1;
  size_t hole = find_slot(entry.name);
  entry.named = false;
  for (size_t slot = (hole + 1) & mask; slots_[slot] >= 0; slot = (slot + 1) & mask) {
    const size_t home = home_slot(blocks_[static_cast<size_t>(slots_[slot])].name);
    if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
    slots_[hole] = slots_[slot];
    hole = slot;
  }
  slots_[hole] = -1;
}

void BlockManager::check_invariants() const {
  BlockCounts counted{.free = static_cast<int64_t>(free_.size())};
  int64_t named = 0;
  for (const Block& block : blocks_) {
    counted.referenced += block.references > 0;
    named += block.named;
  }
  for (int32_t block = oldest_; block >= 0; block = blocks_[static_cast<size_t>(block)].newer) {
    const Block& entry = blocks_[static_cast<size_t>(block)];
    check(entry.references == 0 && entry.named, "a cached KV block is in use or has no name");
    check(slots_[find_slot(entry.name)] == block, "a cached KV block cannot be found by its name");
    ++counted.cached;
  }
  for (const int32_t block : free_) {
    const Block& entry = blocks_[static_cast<size_t>(block)];
    check(entry.references == 0 && !entry.named, "a free KV block is in use or has a name");
  }
  for (const int32_t block : slots_) named -= block >= 0;
  check(named == 0, "names of KV blocks and their table disagree");
  check(counted.referenced == counts_.referenced && counted.cached == counts_.cached &&
            counted.free == counts_.free,
        "KV block counts are wrong");
  check(counted.referenced + counted.cached + counted.free == total(), "KV blocks are lost");
}

Sha256Digest prefix_root(std::string_view cache_salt, std::string_view model, std::string_view adapter) {
  Sha256 hash;
  for (const std::string_view part : {cache_salt, model, adapter}) {
    const uint64_t size = part.size();
    hash.update(std::as_bytes(std::span(&size, 1)));
    hash.update(part);
  }
  return hash.finish();
}

Sha256Digest extend_prefix(Sha256& hash, const Sha256Digest& prefix,
                           std::span<const int32_t, static_cast<size_t>(compute::kBlockPositions)> tokens) {
  hash.update(std::as_bytes(std::span(prefix)));
  hash.update(std::as_bytes(tokens));
  return hash.finish();
}

}  // namespace neutrino::engine
