// neutrino bench MODEL --adapters N: what adapters cost while a batch decodes.
#pragma once

#include <cstdint>
#include <string>

#include "compute/backend.h"
#include "models/model.h"
#include "weights/weight_file.h"

namespace neutrino::cli {

struct AdapterBench {
  int64_t adapters = 8;  // and as many sequences, one each
  int64_t rank = 16;
  std::string targets = "all";  // "all": of attention and MLPs; "attention"; "qv": PEFT's default for llamas
  int64_t context = 128, steps = 32;  // of each sequence
  int64_t rounds = 9;                 // of the base and the adapters, one after the other
  bool as_json = false;
};

// Random adapters; decodes the same batch with and without them in turn, and prints both medians and that of the ratios.
void bench_adapters(const weights::WeightFile& file, const models::Model& model, compute::Backend& backend,
                    const AdapterBench& bench);

}  // namespace neutrino::cli
