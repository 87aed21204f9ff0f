// KV blocks: who holds which, and which are shared.
//
// The KV cache is cut into blocks of kBlockPositions token positions; a sequence lists its blocks in a block table. A full
// block is named by a hash of everything that its contents depend on: the cache salt, the model, the adapter and all tokens
// up to the block's end (a chain, so that hashing stays linear). Sequences with a common prefix share its blocks by reference
// count, and a finished sequence leaves them behind for the next one until they are evicted, least recently used first.
//
// A block is in one of three states, and their counts always add up to the total: referenced (in some block table), cached
// (named, in no table: may be taken or evicted), free. All storage is made in the constructor: nothing here allocates.
// Owned by the engine thread. Idea: Kwon et al. 2023, "PagedAttention".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "compute/batch.h"

namespace neutrino::engine {

struct BlockCounts {
  int64_t referenced = 0, cached = 0, free = 0;
};

enum class PrefixCache { off, on };

class BlockManager {
 public:
  BlockManager(int64_t blocks, PrefixCache prefix_cache);

  // The block with this name, with one more reference; nullopt: not here.
  std::optional<int32_t> find(const Sha256Digest& name);
  // The same without a reference: who bears this name now?
  std::optional<int32_t> holder(const Sha256Digest& name) const;
  // A block whose contents nobody needs, with one reference: a free one, else the least recently used cached one.
  std::optional<int32_t> allocate();
  // The block is full and computed. If another block bears the name already, this one stays nameless.
  void set_name(int32_t block, const Sha256Digest& name);
  // One reference less. At zero a named block is cached, as the most recently used, and another one is free.
  void release(int32_t block);

  void forget_cached();  // every cached block is free: its contents are gone

  bool keeps_names() const { return prefix_cache_ == PrefixCache::on; }
  int64_t total() const { return static_cast<int64_t>(blocks_.size()); }
  BlockCounts counts() const { return counts_; }
  int64_t available() const { return counts_.cached + counts_.free; }
  int64_t evictions() const { return evictions_; }
  bool named(int32_t block) const { return blocks_[static_cast<size_t>(block)].named; }
  int64_t references(int32_t block) const { return blocks_[static_cast<size_t>(block)].references; }

  // Recounts everything and check()s it against what is kept. For tests; takes time.
  void check_invariants() const;

 private:
  friend struct BlockManagerFault;  // a test's way to forget a release

  struct Block {
    int32_t references = 0;
    bool named = false;
    int32_t older = -1, newer = -1;  // neighbours in the list of cached blocks
    Sha256Digest name{};
  };

  void link_newest(int32_t block);
  void unlink(int32_t block);
  size_t home_slot(const Sha256Digest& name) const;
  size_t find_slot(const Sha256Digest& name) const;  // its slot, or the empty one where it would go
  void erase_name(int32_t block);

  PrefixCache prefix_cache_;
  std::vector<Block> blocks_;
  std::vector<int32_t> free_;          // a stack
  std::vector<int32_t> slots_;         // open-addressed hash table from name to block; -1: empty
  int32_t oldest_ = -1, newest_ = -1;  // ends of the list of cached blocks
  BlockCounts counts_;
  int64_t evictions_ = 0;
};

// Names of blocks: root for an empty prefix, then one link of the chain per block.
Sha256Digest prefix_root(std::string_view cache_salt, std::string_view model, std::string_view adapter);
Sha256Digest extend_prefix(Sha256& hash, const Sha256Digest& prefix,
                           std::span<const int32_t, static_cast<size_t>(compute::kBlockPositions)> tokens);

}  // namespace neutrino::engine
