// Writes a model in another format or with other types: any opened WeightFile to one GGUF file.
//
// The file grows as FILE.partial, with FILE.partial.json beside it that says how much of it is safe on the disk. A conversion
// that was interrupted goes on from there if it would write the same file, which the header's hash decides: the header holds
// all keys, the lineage with the parents' hashes among them, and all tensors' types. The finished file gets its name by rename.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "weights/lineage.h"
#include "weights/quantize.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

inline constexpr std::string_view kCheckpointConfigKey = "neutrino.checkpoint.config";

struct ConvertOptions {
  const QuantMix* mix = nullptr;  // null: each tensor keeps its type
  LineageStep lineage;
  std::string checkpoint_config =
      {};               // config.json of a checkpoint, to be remembered in the file for the way back
  int64_t threads = 0;  // 0: one per core
  std::function<void(int64_t done, int64_t total)> progress = {};  // bytes of the file
};

struct ConvertReport {
  int64_t bytes = 0;
  int64_t resumed_at = 0;  // bytes that an earlier run had written
};

// Throws Error; what is written so far stays for the next run. A second conversion to the same file at the same time is
// Error{failed_precondition}.
ConvertReport convert_to_gguf(const WeightFile& source, const std::filesystem::path& out,
                              const ConvertOptions& options);

}  // namespace neutrino::weights
