// What registry.cpp lists: two functions per architecture, defined in the architecture's own file.
#pragma once

#include <memory>

#include "models/model.h"

namespace neutrino::models {

ModelConfig read_deci_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_deci(const weights::WeightFile& file, compute::Backend& backend, int64_t context);

ModelConfig read_deepseek2_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_deepseek2(const weights::WeightFile& file, compute::Backend& backend,
                                      int64_t context);

ModelConfig read_gemma_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_gemma(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context);

ModelConfig read_gpt_oss_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_gpt_oss(const weights::WeightFile& file, compute::Backend& backend,
                                    int64_t context);

ModelConfig read_granite_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_granite(const weights::WeightFile& file, compute::Backend& backend,
                                    int64_t context);

ModelConfig read_llama_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_llama(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context);

ModelConfig read_llama_moe_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_llama_moe(const weights::WeightFile& file, compute::Backend& backend,
                                      int64_t context);

ModelConfig read_nemotron_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_nemotron(const weights::WeightFile& file, compute::Backend& backend,
                                     int64_t context);

ModelConfig read_olmo2_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_olmo2(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context);

ModelConfig read_nemotron_h_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_nemotron_h(const weights::WeightFile& file, compute::Backend& backend,
                                       int64_t context);

ModelConfig read_qwen3next_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_qwen3next(const weights::WeightFile& file, compute::Backend& backend,
                                      int64_t context);

ModelConfig read_bert_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_bert(const weights::WeightFile& file, compute::Backend& backend, int64_t context);

ModelConfig read_modern_bert_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_modern_bert(const weights::WeightFile& file, compute::Backend& backend,
                                        int64_t context);

}  // namespace neutrino::models
