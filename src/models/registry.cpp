// The table of architectures. A new one is a file beside llama.cpp and a line here.

#include <algorithm>

#include "base/error.h"
#include "models/architectures.h"
#include "models/model.h"

namespace neutrino::models {
namespace {

struct Architecture {
  std::string_view name;  // GGUF's general.architecture
  ModelConfig (*read_config)(const weights::WeightFile& file);
  std::unique_ptr<Model> (*load)(const weights::WeightFile& file, compute::Backend& backend, int64_t context);
};

constexpr Architecture kArchitectures[] = {
    {"bert", read_bert_config, load_bert},
    {"deci", read_deci_config, load_deci},
    {"deepseek2", read_deepseek2_config, load_deepseek2},
    {"ernie4_5", read_llama_config, load_llama},
    {"ernie4_5-moe", read_llama_moe_config, load_llama_moe},
    {"gemma-embedding", read_gemma_config, load_gemma},
    {"gemma2", read_gemma_config, load_gemma},
    {"gemma3", read_gemma_config, load_gemma},
    {"glm4moe", read_llama_moe_config, load_llama_moe},
    {"gpt-oss", read_gpt_oss_config, load_gpt_oss},
    {"granite", read_granite_config, load_granite},
    {"llama", read_llama_config, load_llama},
    {"modern-bert", read_modern_bert_config, load_modern_bert},
    {"nemotron", read_nemotron_config, load_nemotron},
    {"nemotron_h", read_nemotron_h_config, load_nemotron_h},
    {"nemotron_h_moe", read_nemotron_h_config, load_nemotron_h},
    {"olmo2", read_olmo2_config, load_olmo2},
    {"phi3", read_llama_config, load_llama},
    {"qwen2", read_llama_config, load_llama},
    {"qwen2moe", read_llama_moe_config, load_llama_moe},
    {"qwen3", read_llama_config, load_llama},
    {"qwen35", read_qwen3next_config, load_qwen3next},
    {"qwen35moe", read_qwen3next_config, load_qwen3next},
    {"qwen3moe", read_llama_moe_config, load_llama_moe},
    {"qwen3next", read_qwen3next_config, load_qwen3next},
    {"smollm3", read_llama_config, load_llama},
};

const Architecture& find_architecture(const weights::WeightFile& file) {
  const auto name = file.metadata().text("general.architecture");
  if (!name)
    throw make_error(ErrorCode::invalid_argument, "{} has no general.architecture",
                     file.path().filename().string());
  for (const Architecture& architecture : kArchitectures)
    if (architecture.name == *name) return architecture;
  std::string known;
  for (const Architecture& architecture : kArchitectures)
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  throw make_error(ErrorCode::unimplemented, "architecture \"{:.64}\" is not known; this build runs: {}",
                   *name, known);
}

}  // namespace

ModelConfig read_model_config(const weights::WeightFile& file) {
  return find_architecture(file).read_config(file);
}

std::unique_ptr<Model> load_model(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context) {
  const Architecture& architecture = find_architecture(file);
  const int64_t trained = architecture.read_config(file).max_position_embeddings;
  auto model = architecture.load(file, backend, std::min(trained, context > 0 ? context : kContextDefault));
  backend.loaded();
  file.release_pages();
  return model;
}

}  // namespace neutrino::models
