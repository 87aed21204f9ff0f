#include "models/model.h"

#include "base/error.h"

namespace neutrino::models {

compute::KvCacheShape Model::kv_cache_shape(int64_t blocks, int64_t) const {
  check(!config_.recurrent, "a model with recurrent layers says what its cache looks like");
  return compute::uniform_kv_cache(config_.num_hidden_layers, config_.num_key_value_heads, config_.head_dim,
                                   blocks);
}

}  // namespace neutrino::models
