// The architectures of Hugging Face checkpoints that are read, and the function that maps each: one line for a new one.
#include "weights/layouts/layout.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

struct KnownLayout {
  std::string_view architecture;  // config.json: architectures[0]
  std::string_view model_type;    // config.json, where architectures is missing or not listed here
  MapFunction map;
};

constexpr KnownLayout kLayouts[] = {
    {"BertForMaskedLM", "bert", map_bert},
    {"BertForSequenceClassification", "bert", map_bert},
    {"BertModel", "bert", map_bert},
    {"DeciLMForCausalLM", "nemotron-nas", map_deci},
    {"DeepseekV2ForCausalLM", "deepseek_v2", map_deepseek_v2},
    {"DeepseekV3ForCausalLM", "deepseek_v3", map_deepseek_v3},
    {"Ernie4_5ForCausalLM", "ernie4_5", map_ernie4_5},
    {"Ernie4_5_ForCausalLM", "", map_ernie4_5},
    {"Ernie4_5_MoeForCausalLM", "ernie4_5_moe", map_ernie4_5_moe},
    {"Gemma2ForCausalLM", "gemma2", map_gemma2},
    {"Gemma3ForCausalLM", "gemma3_text", map_gemma3},
    {"Gemma3ForConditionalGeneration", "gemma3", map_gemma3},
    {"Gemma3TextModel", "gemma3_text", map_gemma3},
    {"Glm4MoeForCausalLM", "glm4_moe", map_glm4moe},
    {"GptOssForCausalLM", "gpt_oss", map_gpt_oss},
    {"GraniteForCausalLM", "granite", map_granite},
    {"LlamaForCausalLM", "llama", map_llama},
    {"MistralForCausalLM", "mistral", map_mistral},
    {"MixtralForCausalLM", "mixtral", map_mixtral},
    {"ModernBertForMaskedLM", "modernbert", map_modern_bert},
    {"ModernBertForSequenceClassification", "modernbert", map_modern_bert},
    {"ModernBertModel", "modernbert", map_modern_bert},
    {"NemotronForCausalLM", "nemotron", map_nemotron},
    {"NemotronHForCausalLM", "nemotron_h", map_nemotron_h},
    {"Olmo2ForCausalLM", "olmo2", map_olmo2},
    {"Olmo3ForCausalLM", "olmo3", map_olmo3},
    {"Phi3ForCausalLM", "phi3", map_phi3},
    {"Qwen2ForCausalLM", "qwen2", map_qwen2},
    {"Qwen2MoeForCausalLM", "qwen2_moe", map_qwen2moe},
    {"Qwen3ForCausalLM", "qwen3", map_qwen3},
    {"Qwen3ForSequenceClassification", "qwen3", map_qwen3},
    {"Qwen3Model", "qwen3", map_qwen3},
    {"Qwen3MoeForCausalLM", "qwen3_moe", map_qwen3moe},
    {"Qwen3NextForCausalLM", "qwen3_next", map_qwen3next},
    {"Qwen3_5ForCausalLM", "qwen3_5_text", map_qwen35},
    {"Qwen3_5ForConditionalGeneration", "qwen3_5", map_qwen35},
    {"Qwen3_5MoeForCausalLM", "qwen3_5_moe_text", map_qwen35moe},
    {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", map_qwen35moe},
    {"SmolLM3ForCausalLM", "smollm3", map_smollm3},
};

std::string_view text_at(const json::object& config, std::string_view name) {
  const json::value* value = config.if_contains(name);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

std::string_view architecture_of(const json::object& config) {
  const json::value* list = config.if_contains("architectures");
  if (!list || !list->is_array() || list->get_array().empty()) return {};
  const json::value& first = list->get_array().front();
  return first.is_string() ? std::string_view(first.get_string()) : std::string_view();
}

// Of the language model, where a model sees as well.
std::string_view text_model_type(const json::object& config) {
  const json::value* text = config.if_contains("text_config");
  return text && text->is_object() ? text_at(text->get_object(), "model_type") : std::string_view();
}

}  // namespace

MapFunction find_layout(const json::object& config) {
  const std::string_view architecture = architecture_of(config), type = text_at(config, "model_type");
  for (const KnownLayout& known : kLayouts)
    if (!architecture.empty() && known.architecture == architecture) return known.map;
  for (const std::string_view wanted : {type, text_model_type(config)})
    for (const KnownLayout& known : kLayouts)
      if (!wanted.empty() && known.model_type == wanted) return known.map;
  std::string names;
  for (const KnownLayout& known : kLayouts)
    names += (names.empty() ? "" : ", ") + std::string(known.architecture);
  throw make_error(ErrorCode::unimplemented,
                   "config.json: architecture {} (model_type {}) is not known; known are {}",
                   in_quotes(architecture), in_quotes(type), names)
      .with_reason("architecture");
}

}  // namespace neutrino::weights
