// A model: its configuration, its weights in a backend's layout, and forward(). The front door of this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "compute/backend.h"
#include "weights/weight_file.h"

namespace neutrino::models {

// Names as in Hugging Face's config.json.
struct ModelConfig {
  std::string architecture;  // GGUF's general.architecture: "llama"
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double rope_theta = 0;
  bool tie_word_embeddings = false;
};

class Model {
 public:
  virtual ~Model() = default;
  const ModelConfig& config() const { return config_; }
  int64_t context() const { return context_; }  // positions that forward() accepts

  // Logits (output_rows, vocab_size) in the backend's scratch. Writes the batch's keys and values into the cache.
  virtual compute::Tensor forward(compute::Backend& backend, const compute::Batch& batch,
                                  compute::KvCache& cache) const = 0;

  virtual int64_t scratch_bytes(int64_t rows,
                                int64_t output_rows) const = 0;  // of one forward(), for Backend::reserve
  virtual int64_t weight_bytes() const = 0;                      // read for one token, for roofline figures

  compute::KvCacheShape kv_cache_shape(int64_t blocks) const {
    return {config_.num_hidden_layers, config_.num_key_value_heads, config_.head_dim, blocks};
  }

 protected:
  ModelConfig config_;
  int64_t context_ = 0;
};

// Reads the architecture from the file and builds the model that registry.cpp lists for it. Throws Error{unimplemented} for
// an unknown architecture, Error{invalid_argument} for weights that do not fit their configuration. `file` must outlive the
// model. `context` caps the positions that the model is prepared for (0: what the file says, at most kContextDefault).
inline constexpr int64_t kContextDefault = 131072;
std::unique_ptr<Model> load_model(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context = 0);

ModelConfig read_model_config(const weights::WeightFile& file);

}  // namespace neutrino::models
