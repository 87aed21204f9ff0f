// For negative controls: what a block manager looks like whose owner forgot to release a block.
#pragma once

#include "engine/block_manager.h"

namespace neutrino::engine {

struct BlockManagerFault {
  static void forget_release(const BlockManager& blocks, int32_t block) {
    ++const_cast<BlockManager&>(blocks).blocks_[static_cast<size_t>(block)].references;
  }
};

}  // namespace neutrino::engine
