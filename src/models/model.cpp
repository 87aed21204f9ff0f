#include "models/model.h"

#include "base/error.h"

namespace neutrino::models {

compute::KvCacheShape Model::kv_cache_shape(int64_t blocks, int64_t) const {
  check(!config_.recurrent, "a model with recurrent layers says what its cache looks like");
  compute::KvCacheShape shape = compute::uniform_kv_cache(
      config_.num_hidden_layers, config_.num_key_value_heads, config_.head_dim, blocks);
  if (!config_.bidirectional)
    for (size_t i = 0; i < windows_.size(); ++i) shape.layers[i].window = windows_[i];
  return shape;
}

}  // namespace neutrino::models
