// How a Hugging Face checkpoint of one architecture becomes the canonical form (GGUF's keys, tensor names and layouts).
//
// One function per architecture fills a Layout: the keys, from config.json, and for every canonical tensor the checkpoint's
// tensors that it is made of. table.cpp lists them. The safetensors reader makes a tensor when it is asked for; the way back
// (GGUF to safetensors) uses the same rules, turned round.
//
// A mapping function sees one spelling of names and fields, whoever wrote the checkpoint:
// - tensors are called as in the text model alone: "model.layers.0...", "lm_head.weight" (not "language_model.model.layers.0",
//   not "model.language_model.layers.0", not "layers.0" of a decoder saved without its head); vision towers are left out;
// - a quantised tensor is there under its plain name with its plain shape ("...q_proj.weight" for qweight, qzeros, scales);
// - the fields of config.json's text_config stand beside the others;
// - of a sentence-transformers folder, the field "sentence_transformers" is the list of its modules ({"path", "type",
//   "config"}), and a module's own tensors have its path in front: "2_Dense.linear.weight".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

// What happens to the checkpoint's tensor, in this order. For a tensor of three dimensions (experts, rows, columns) each
// matrix by itself; for a vector, its elements are the rows. A convolution's (channels, 1, kernel) is a matrix of as many
// rows as channels.
struct Transform {
  bool transpose = false;          // (columns, rows) on disk
  std::vector<int64_t> rows = {};  // row i is the checkpoint's row rows[i]; empty: all of them as they stand
  std::vector<int64_t> columns = {};                                         // the same for columns
  enum class Map : uint8_t { none, add_one, negative_exp } map = Map::none;  // element by element, in float32
  std::vector<int64_t> shape = {};  // the shape afterwards; empty: as it is
  bool transpose_last = false;      // then each matrix of that shape (count, rows, columns) is transposed
};

// Rows first, first + step, ... (`count` of them): slices of fused and interleaved projections.
std::vector<int64_t> row_range(int64_t first, int64_t count, int64_t step = 1);
// Hugging Face's halves (i, i + n/2) to GGUF's pairs (2i, 2i+1) in each of `heads` heads of `head_dim` rows; only the first
// `rotary_dim` rows of a head rotate (0: all).
std::vector<int64_t> rope_pairs(int64_t heads, int64_t head_dim, int64_t rotary_dim = 0);

struct TensorRule {
  std::string name;  // canonical: "blk.0.attn_q.weight"
  std::vector<std::string>
      sources;  // in the checkpoint; several: one matrix each of a stacked tensor (experts)
  Transform transform = {};
};

class Layout {
 public:
  explicit Layout(const json::object& config, std::vector<std::string> tensors);

  // ---- config.json. A missing required field throws Error that names it; wrong types too, and integers beyond +-2^24.
  const json::object& config() const { return config_; }
  int64_t integer(std::string_view field) const;
  int64_t integer(std::string_view field, int64_t fallback) const;  // also where the field is null
  double number(std::string_view field) const;
  double number(std::string_view field, double fallback) const;
  bool boolean(std::string_view field, bool fallback) const;
  std::string text(std::string_view field, std::string_view fallback) const;
  // rope_parameters (transformers 5; `layer_type` picks the entry where they are nested) or rope_scaling and rope_theta
  // (before): one object with rope_theta, rope_type and the type's own fields.
  json::object rope(std::string_view layer_type = {}) const;

  // ---- what the canonical file says
  void set_architecture(std::string_view name);                 // first: general.architecture
  void set(std::string_view key, MetadataValue value);          // "block_count": "<architecture>.block_count"
  void set_general(std::string_view key, MetadataValue value);  // the whole key
  // rope.freq_base and rope.scaling.* from rope("full_attention"), as llama.cpp has them: linear and yarn become keys, llama3's
  // divisors the tensor rope_freqs.weight, longrope's rope_factors_{long,short}.weight. `rotary_dim` of a head rotate (0:
  // head_dim times partial_rotary_factor). rope.scaling.attn_factor is what cosine and sine are multiplied with beside YaRN's
  // own 0.1 ln(factor) + 1; with rope.scaling.yarn_log_multiplier (DeepSeek: 0.1 mscale_all_dim) it is all of it.
  void set_rope(int64_t rotary_dim = 0);

  bool has(std::string_view source) const;  // is there such a tensor in the checkpoint?
  // Both throw Error where the checkpoint has no such tensor.
  void tensor(std::string name, std::string source, Transform transform = {});
  void stack(std::string name, std::vector<std::string> sources, Transform transform = {});
  void constant(std::string name,
                std::vector<float> values);     // a float32 vector that is no tensor of the checkpoint
  void ignore(std::string_view source_prefix);  // known and not needed (mtp.*)

  // What most decoders share: vocabulary size, context, sizes, heads, norm epsilon, from the usual field names.
  void set_common();
  int64_t layers() const;    // num_hidden_layers, within limits::kLayers
  int64_t head_dim() const;  // head_dim, or hidden_size / num_attention_heads

  // ---- for the reader and the writer
  std::span<const TensorRule> rules() const { return rules_; }
  // Throws Error that names the checkpoint's tensors that no rule uses and none ignores: nothing is dropped silently.
  void check_complete() const;

 private:
  const json::value* field(std::string_view name) const;  // nullptr: absent or null
  void add_rule(TensorRule rule);
  void set_linear(const json::object& rope);
  void set_yarn(const json::object& rope);
  void set_llama3(const json::object& rope, int64_t rotary_dim);
  void set_longrope(const json::object& rope, int64_t rotary_dim);
  int64_t original_context(const json::object& rope) const;

  json::object config_;
  std::vector<std::string> sources_;  // sorted
  std::string architecture_;
  std::vector<TensorRule> rules_;
  std::vector<std::string> ignored_;
  std::vector<std::pair<std::string, MetadataValue>> metadata_;
  std::vector<std::pair<std::string, std::vector<float>>> constants_;

 public:
  const auto& metadata() const { return metadata_; }
  const auto& constants() const { return constants_; }
};

using MapFunction = void (*)(Layout& layout);
// The function for config.json's architectures[0] ("LlamaForCausalLM") or, failing that, model_type. Throws
// Error{unimplemented} that lists the known ones.
MapFunction find_layout(const json::object& config);

void map_bert(Layout& layout);
void map_deci(Layout& layout);
void map_deepseek_v2(Layout& layout);
void map_deepseek_v3(Layout& layout);
void map_ernie4_5(Layout& layout);
void map_ernie4_5_moe(Layout& layout);
void map_gemma2(Layout& layout);
void map_gemma3(Layout& layout);
void map_glm4moe(Layout& layout);
void map_gpt_oss(Layout& layout);
void map_granite(Layout& layout);
void map_llama(Layout& layout);
void map_mistral(Layout& layout);
void map_mixtral(Layout& layout);
void map_modern_bert(Layout& layout);
void map_nemotron(Layout& layout);
void map_nemotron_h(Layout& layout);
void map_olmo2(Layout& layout);
void map_olmo3(Layout& layout);
void map_phi3(Layout& layout);
void map_qwen2(Layout& layout);
void map_qwen2moe(Layout& layout);
void map_qwen3(Layout& layout);
void map_qwen35(Layout& layout);
void map_qwen35moe(Layout& layout);
void map_qwen3moe(Layout& layout);
void map_qwen3next(Layout& layout);
void map_smollm3(Layout& layout);

}  // namespace neutrino::weights
