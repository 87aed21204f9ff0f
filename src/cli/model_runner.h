// Runs a model without an engine: `sequences` sequences side by side in a KV cache of their own. For measuring.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "compute/backend.h"
#include "models/model.h"

namespace neutrino::cli {

class ModelRunner {
 public:
  // Sequences of up to `positions` tokens; a call to forward() takes at most `rows` rows and wants `output_rows` logits.
  ModelRunner(const models::Model& model, compute::Backend& backend, int64_t sequences, int64_t positions,
              int64_t rows, int64_t output_rows, compute::KvType kv_type = compute::KvType::bf16,
              int64_t adapter_rank = 0);

  void clear();  // every sequence is empty again
  int64_t length(int64_t sequence) const { return lengths_[sequence]; }

  // One a sequence, of at most the rank that was said; empty: none. They outlive the calls of forward().
  void set_adapters(std::vector<const compute::Adapter*> adapters) { adapters_ = std::move(adapters); }

  enum class Outputs { none, last, all };
  // Appends tokens[i] to sequence first + i, for all i. Logits: (sum of output rows, vocab_size).
  compute::Tensor forward(int64_t first, std::span<const std::vector<int32_t>> tokens, Outputs outputs);

 private:
  const models::Model& model_;
  compute::Backend& backend_;
  std::unique_ptr<compute::KvCache> cache_;
  std::vector<std::vector<int32_t>> block_tables_;  // one per sequence
  std::vector<int64_t> lengths_;
  std::vector<const compute::Adapter*> adapters_;
  std::vector<int32_t> tokens_, positions_, output_rows_;
  std::vector<compute::SequenceRows> rows_;
};

}  // namespace neutrino::cli
