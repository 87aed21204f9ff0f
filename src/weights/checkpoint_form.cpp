#include "weights/checkpoint_form.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "weights/checkpoint_folder.h"
#include "weights/checkpoint_source.h"
#include "weights/derived_file.h"

namespace neutrino::weights {
namespace {

struct Family {
  std::string_view architecture;  // GGUF's
  std::string_view class_name;    // config.json's architectures
  std::string_view model_type;
};
constexpr Family kFamilies[] = {
    {"llama", "LlamaForCausalLM", "llama"},         {"qwen2", "Qwen2ForCausalLM", "qwen2"},
    {"qwen3", "Qwen3ForCausalLM", "qwen3"},         {"gemma2", "Gemma2ForCausalLM", "gemma2"},
    {"gemma3", "Gemma3ForCausalLM", "gemma3_text"}, {"olmo2", "Olmo2ForCausalLM", "olmo2"},
};

using Names = std::vector<std::pair<std::string_view, std::string_view>>;

const Names kModel = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
const Names kLayer = {{"attn_norm", "input_layernorm"},
                      {"attn_q", "self_attn.q_proj"},
                      {"attn_k", "self_attn.k_proj"},
                      {"attn_v", "self_attn.v_proj"},
                      {"attn_output", "self_attn.o_proj"},
                      {"attn_q_norm", "self_attn.q_norm"},
                      {"attn_k_norm", "self_attn.k_norm"},
                      {"ffn_gate", "mlp.gate_proj"},
                      {"ffn_up", "mlp.up_proj"},
                      {"ffn_down", "mlp.down_proj"},
                      {"post_attention_norm", "post_attention_layernorm"},
                      {"post_ffw_norm", "post_feedforward_layernorm"}};

std::optional<std::string_view> look_up(const Names& names, std::string_view name) {
  for (const auto& [from, to] : names)
    if (from == name) return to;
  return std::nullopt;
}

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; nullopt: no plain name.
std::optional<std::string> checkpoint_name(std::string_view architecture, std::string_view canonical) {
  const size_t dot = canonical.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view stem = canonical.substr(0, dot), suffix = canonical.substr(dot);
  if (!stem.starts_with("blk.")) {
    const auto name = look_up(kModel, stem);
    return name ? std::optional(std::string(*name) + std::string(suffix)) : std::nullopt;
  }
  const size_t end = stem.find('.', 4);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view part = stem.substr(end + 1);
  std::optional<std::string_view> name = look_up(kLayer, part);
  if (part == "ffn_norm")
    name = architecture.starts_with("gemma") ? "pre_feedforward_layernorm" : "post_attention_layernorm";
  if (!name) return std::nullopt;
  return fmt::format("model.layers.{}.{}{}", stem.substr(4, end - 4), *name, suffix);
}

const Family& family_of(const WeightFile& file) {
  const auto architecture = file.metadata().text("general.architecture").value_or("");
  for (const Family& family : kFamilies)
    if (family.architecture == architecture) return family;
  throw make_error(ErrorCode::unimplemented,
                   "a GGUF file of architecture \"{:.64}\" has no known form as a checkpoint; known are "
                   "llama, qwen2, qwen3, "
                   "gemma2, gemma3, olmo2, and files that neutrino converted from a checkpoint",
                   architecture);
}

std::vector<std::string> checkpoint_names(const WeightFile& file, std::string_view architecture) {
  std::vector<std::string> names;
  for (const TensorEntry& tensor : file.tensors()) {
    if (tensor.name == "rope_freqs.weight" || tensor.name.ends_with(".scale")) continue;
    const auto name = checkpoint_name(architecture, tensor.name);
    if (!name)
      throw make_error(ErrorCode::unimplemented, "tensor {} has no known name in a checkpoint", tensor.name);
    names.push_back(*name);
  }
  return names;
}

// config.json's fields from the keys under "<architecture>.".
class ConfigMaker {
 public:
  explicit ConfigMaker(const WeightFile& file) : file_(file), family_(family_of(file)) {}

  json::object make() {
    refuse_scaling();
    return make_without_scaling();
  }

  // What the tensors' names and layouts depend on.
  json::object make_without_scaling() {
    config_["architectures"] = json::array{json::string_view(family_.class_name)};
    config_["model_type"] = json::string_view(family_.model_type);
    copy_integer("hidden_size", "embedding_length");
    copy_integer("intermediate_size", "feed_forward_length");
    copy_integer("num_hidden_layers", "block_count");
    copy_integer("num_attention_heads", "attention.head_count");
    copy_integer("num_key_value_heads", "attention.head_count_kv");
    copy_integer("head_dim", "attention.key_length");
    copy_integer("max_position_embeddings", "context_length");
    copy_integer("sliding_window", "attention.sliding_window");
    copy_number("rms_norm_eps", "attention.layer_norm_rms_epsilon");
    copy_number("rope_theta", "rope.freq_base");
    copy_number("rope_local_base_freq", "rope.freq_base_swa");
    copy_number("attn_logit_softcapping", "attn_logit_softcapping");
    copy_number("final_logit_softcapping", "final_logit_softcapping");
    if (!config_.contains("num_key_value_heads"))
      config_["num_key_value_heads"] = config_.at("num_attention_heads");
    const TensorEntry* embedding = file_.find("token_embd.weight");
    if (!embedding) throw Error(ErrorCode::invalid_argument, "the model has no token_embd.weight");
    config_["vocab_size"] = embedding->shape[0];
    config_["tie_word_embeddings"] = file_.find("output.weight") == nullptr;
    config_["attention_bias"] = file_.find("blk.0.attn_q.bias") != nullptr;
    config_["hidden_act"] = family_.architecture.starts_with("gemma") ? "gelu_pytorch_tanh" : "silu";
    if (family_.architecture.starts_with("gemma")) {
      config_["hidden_activation"] = "gelu_pytorch_tanh";
      config_["query_pre_attn_scalar"] =
          config_.contains("head_dim") ? config_.at("head_dim") : json::value(256);
    }
    return std::move(config_);
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", family_.architecture, name); }
  void copy_integer(std::string_view field, std::string_view name) {
    if (const auto value = file_.metadata().integer(key(name))) config_[field] = *value;
  }
  void copy_number(std::string_view field, std::string_view name) {
    if (const auto value = file_.metadata().number(key(name))) config_[field] = *value;
  }
  // Its parameters are baked into tensors or keys in a way that cannot be turned round.
  void refuse_scaling() const {
    const auto type = file_.metadata().text(key("rope.scaling.type"));
    if ((type && *type != "none") || file_.find("rope_freqs.weight"))
      throw Error(
          ErrorCode::unimplemented,
          "the file's RoPE scaling cannot be written as config.json; only a file that neutrino converted "
          "from a checkpoint remembers it");
  }

  const WeightFile& file_;
  const Family& family_;
  json::object config_;
};

CheckpointForm form_from(json::object config, std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  Layout layout(config, std::move(names));
  find_layout(config)(layout);
  layout.check_complete();
  return {std::move(config), {layout.rules().begin(), layout.rules().end()}};
}

std::vector<std::string> source_names(const CheckpointFolder& folder) {
  std::vector<std::string> names;
  for (const auto& [name, source] : make_sources(folder.tensors(), folder.config())) names.push_back(name);
  return names;
}

int64_t count_of(const std::vector<int64_t>& indices, int64_t otherwise) {
  return indices.empty() ? otherwise : *std::ranges::max_element(indices) + 1;
}

// Rows and columns of the source's matrix that a canonical matrix of this size was made of.
struct Size {
  int64_t rows, columns;
};

Size canonical_size(const WeightFile& file, const TensorRule& rule, bool stacked) {
  const TensorEntry& tensor = *file.find(rule.name);
  const auto& shape = tensor.shape;
  if (shape.size() == 1) return {shape[0], 1};
  const int64_t columns = shape.back();
  const int64_t rows =
      std::accumulate(shape.begin() + (stacked ? 1 : 0), shape.end() - 1, int64_t{1}, std::multiplies<>());
  return {rows, columns};
}

// Puts the canonical matrix (size.rows, size.columns) back to where it came from.
void put_back(const TensorRule& rule, const float* matrix, const Size& size, int64_t source_columns,
              std::vector<float>& source) {
  const Transform& t = rule.transform;
  for (int64_t r = 0; r < size.rows; ++r)
    for (int64_t c = 0; c < size.columns; ++c) {
      int64_t row = t.rows.empty() ? r : t.rows[r], column = t.columns.empty() ? c : t.columns[c];
      if (t.transpose) std::swap(row, column);
      float value = matrix[r * size.columns + c];
      if (t.map == Transform::Map::add_one) value -= 1;
      if (t.map == Transform::Map::negative_exp) value = std::log(-value);
      source[row * source_columns + column] = value;
    }
}

}  // namespace

CheckpointForm checkpoint_form(const WeightFile& file) {
  if (file.format() == "safetensors") {
    const CheckpointFolder folder(file.path(), Links::follow);
    return form_from(folder.config(), source_names(folder));
  }
  const auto architecture = std::string(file.metadata().text("general.architecture").value_or(""));
  if (const auto text = file.metadata().text(kCheckpointConfigKey))
    return form_from(parse_json(*text).as_object(), checkpoint_names(file, architecture));
  json::object config = ConfigMaker(file).make();
  return form_from(std::move(config), checkpoint_names(file, architecture));
}

std::vector<TensorRule> checkpoint_rules(const WeightFile& file) {
  if (file.format() == "safetensors" || file.metadata().has(kCheckpointConfigKey))
    return checkpoint_form(file).rules;
  const auto architecture = std::string(file.metadata().text("general.architecture").value_or(""));
  return form_from(ConfigMaker(file).make_without_scaling(), checkpoint_names(file, architecture)).rules;
}

CheckpointTensors::CheckpointTensors(const WeightFile& file, const CheckpointForm& form)
    : file_(file), rules_(form.rules) {
  for (const TensorRule& rule : rules_)
    for (size_t i = 0; i < rule.sources.size(); ++i)
      parts_[rule.sources[i]].push_back({&rule, rule.sources.size() > 1 ? static_cast<int64_t>(i) : -1});
  for (const auto& [name, parts] : parts_) {
    Size whole{0, 0};
    refuse_fused(name, parts);
    for (const Part& part : parts) {
      const Transform& t = part.rule->transform;
      const Size size = canonical_size(file, *part.rule, part.matrix >= 0);
      Size source{count_of(t.rows, size.rows), count_of(t.columns, size.columns)};
      if (t.transpose) std::swap(source.rows, source.columns);
      whole = {std::max(whole.rows, source.rows), std::max(whole.columns, source.columns)};
    }
    const TensorEntry& tensor = *file.find(parts[0].rule->name);
    const bool vector = tensor.shape.size() == 1 && parts[0].rule->transform.shape.empty();
    list_.push_back(
        {name, vector ? std::vector{whole.rows} : std::vector{whole.rows, whole.columns}, tensor.dtype});
  }
}

// Fused expert tensors and convolutions have three dimensions there, which the way back does not know.
void CheckpointTensors::refuse_fused(const std::string& name, const std::vector<Part>& parts) const {
  for (const Part& part : parts)
    if ((part.matrix < 0 && file_.find(part.rule->name)->shape.size() > 2) || name.ends_with("conv1d.weight"))
      throw make_error(ErrorCode::unimplemented,
                       "tensor {} of three dimensions cannot be written to a checkpoint", name);
}

std::vector<float> CheckpointTensors::values(const CheckpointTensor& tensor) const {
  const int64_t columns = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
  std::vector<float> source(static_cast<size_t>(tensor.shape[0] * columns), std::nanf(""));
  for (const Part& part : parts_.at(tensor.name)) {
    const TensorEntry& entry = *file_.find(part.rule->name);
    const Size size = canonical_size(file_, *part.rule, part.matrix >= 0);
    const std::vector<float> values = read_values(file_, entry);
    put_back(*part.rule, values.data() + std::max<int64_t>(0, part.matrix) * size.rows * size.columns, size,
             columns, source);
  }
  for (const float value : source)
    if (std::isnan(value))
      throw make_error(ErrorCode::invalid_argument,
                       "tensor {} cannot be made whole from the model's tensors, or holds a NaN",
                       tensor.name);
  return source;
}

}  // namespace neutrino::weights
