// An adapter made ready to be served beside its base (compute/adapter.h): for each tensor of the canonical form that it changes,
// A and B in the canonical order of rows and columns, with the scale in B.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "compute/adapter.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

struct AdapterUpdate {
  std::string tensor;  // "blk.0.attn_q.weight"
  int64_t rows = 0, columns = 0, rank = 0;
  std::vector<float> a;  // (rank, columns)
  std::vector<float> b;  // (rows, rank)

  compute::LowRankUpdate view() const { return {tensor, rows, columns, rank, a, b}; }
};

struct AdapterUpdates {
  std::vector<AdapterUpdate> list;  // in the order of the base's rules
  int64_t rank = 0;                 // the largest
  int64_t parameters = 0;
  Sha256Digest digest{};  // of all that it says: two adapters with the same one are the same
};

struct AdapterLimits {
  int64_t rank_max = 0;
  int64_t bytes_max = 0;  // of its tensors as float32
};

// `path`: a PEFT folder or a GGUF adapter. Throws Error that names what the adapter has and what cannot be served beside other
// requests (DoRA, modules_to_save), what does not fit the base, and the limit that it is over.
AdapterUpdates read_adapter_updates(const WeightFile& base, const std::filesystem::path& path,
                                    const AdapterLimits& limits);

}  // namespace neutrino::weights
