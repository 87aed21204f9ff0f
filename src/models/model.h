// A model: its configuration, its weights in a backend's layout, and forward(). The front door of this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "compute/backend.h"
#include "weights/weight_file.h"

namespace neutrino::models {

// How a sequence's hidden states become one vector (GGUF's pooling_type). none: the model gives logits. rank: one score.
enum class Pooling : uint8_t { none, mean, cls, last, rank };

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
  Pooling pooling = Pooling::none;
  Pooling score_rows = Pooling::cls;  // with pooling rank: what the score is made of (cls, mean or last)
  int64_t segments = 0;               // that it has embeddings for (BERT's token types); 0: it knows none
  bool recurrent = false;             // keeps a state beside keys and values: see KvCacheShape::states
  bool bidirectional = false;  // every row of a sequence sees every other: sequences run whole, in one batch
};

class Model {
 public:
  virtual ~Model() = default;
  const ModelConfig& config() const { return config_; }
  int64_t context() const { return context_; }  // positions that forward() accepts

  // (output_rows, output_columns()) in the backend's scratch: logits, or the final hidden states of a model that pools (its
  // caller asks for the rows that its pooling wants and calls finish()). Writes keys, values and states into the cache.
  virtual compute::Tensor forward(compute::Backend& backend, const compute::Batch& batch,
                                  compute::KvCache& cache) const = 0;

  virtual int64_t scratch_bytes(int64_t rows,
                                int64_t output_rows) const = 0;  // of one forward(), for Backend::reserve
  virtual int64_t weight_bytes() const = 0;                      // read for one token, for roofline figures

  virtual int64_t output_columns() const { return config_.vocab_size; }  // of forward()
  // What follows pooling: dense layers (EmbeddingGemma), a classification head (pooling rank: column 0 is the score).
  // pooled: (sequences, output_columns()). No L2 normalisation.
  virtual compute::Tensor finish(compute::Backend&, const compute::Tensor& pooled) const { return pooled; }

  // All layers in the same blocks; where some have a window, the caller may give those blocks of their own.
  virtual compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t state_slots = 0) const;

 protected:
  ModelConfig config_;
  int64_t context_ = 0;
  std::vector<int64_t> windows_;  // of each layer (read_windows()); empty: none has one
};

// Reads the architecture from the file and builds the model that registry.cpp lists for it. Throws Error{unimplemented} for
// an unknown architecture, Error{invalid_argument} for weights that do not fit their configuration. `file` must outlive the
// model. `context` caps the positions that the model is prepared for (0: what the file says, at most kContextDefault).
inline constexpr int64_t kContextDefault = 131072;
std::unique_ptr<Model> load_model(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context = 0);

ModelConfig read_model_config(const weights::WeightFile& file);

}  // namespace neutrino::models
