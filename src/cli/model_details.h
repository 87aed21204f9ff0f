// What a model file holds and what running it takes, for `neutrino model show`.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "weights/store.h"

namespace neutrino::cli {

struct DetailOptions {
  int64_t context = 0;  // 0: the model's, at most kContextDefault
  int64_t batch = 1;    // sequences side by side
  std::string kv_type = "bf16";
  bool exact = false;  // float32 arithmetic, whatever kv_type says
};

// tensors, types, sizes, memory, lineage. An architecture that this build does not run has no memory figures, but a reason.
json::object model_details(const weights::WeightFile& file, const DetailOptions& options);
void print_details(const json::object& details);

}  // namespace neutrino::cli
