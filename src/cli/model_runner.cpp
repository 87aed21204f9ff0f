#include "cli/model_runner.h"

#include <numeric>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::cli {

ModelRunner::ModelRunner(const models::Model& model, compute::Backend& backend, int64_t sequences,
                         int64_t positions, int64_t rows, int64_t output_rows, compute::KvType kv_type,
                         int64_t adapter_rank)
    : model_(model), backend_(backend), lengths_(sequences) {
  const int64_t blocks = ceil_div(positions, compute::kBlockPositions);
  compute::KvCacheShape shape =
      model.kv_cache_shape(blocks * sequences, model.config().recurrent ? sequences : 0);
  shape.type = kv_type;
  cache_ = backend.make_kv_cache(shape);
  for (int64_t i = 0; i < sequences; ++i) {
    std::vector<int32_t>& table = block_tables_.emplace_back(blocks);
    std::iota(table.begin(), table.end(), static_cast<int32_t>(i * blocks));
  }
  backend.reserve(model.scratch_bytes(rows, output_rows) +
                  (adapter_rank > 0 ? backend.adapter_scratch_bytes(rows, adapter_rank) : 0));
}

void ModelRunner::clear() { lengths_.assign(lengths_.size(), 0); }

compute::Tensor ModelRunner::forward(int64_t first, std::span<const std::vector<int32_t>> tokens,
                                     Outputs outputs) {
  tokens_.clear(), positions_.clear(), output_rows_.clear(), rows_.clear();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t sequence = first + static_cast<int64_t>(i);
    const auto count = static_cast<int64_t>(tokens[i].size()), row = static_cast<int64_t>(tokens_.size());
    check(lengths_[sequence] + count <=
          static_cast<int64_t>(block_tables_[sequence].size()) * compute::kBlockPositions);
    const auto slot = static_cast<int32_t>(model_.config().recurrent ? sequence : -1);
    if (slot >= 0 && lengths_[sequence] == 0) cache_->clear_state(slot);
    rows_.push_back({.first_row = row,
                     .rows = count,
                     .first_position = lengths_[sequence],
                     .block_table = block_tables_[sequence],
                     .state_slot = slot,
                     .adapter = adapters_.empty() ? nullptr : adapters_[static_cast<size_t>(sequence)]});
    for (int64_t k = 0; k < count; ++k) {
      tokens_.push_back(tokens[i][k]);
      positions_.push_back(static_cast<int32_t>(lengths_[sequence] + k));
      if (outputs == Outputs::all || (outputs == Outputs::last && k == count - 1))
        output_rows_.push_back(static_cast<int32_t>(row + k));
    }
    lengths_[sequence] += count;
  }
  return model_.forward(backend_, {tokens_, positions_, rows_, output_rows_}, *cache_);
}

}  // namespace neutrino::cli
