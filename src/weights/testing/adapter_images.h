// Adapters of a tiny model for tests: as PEFT folders and GGUF files that a test may change before it writes them.
#pragma once

#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "weights/adapter_updates.h"
#include "weights/testing/gguf_writer.h"
#include "weights/testing/tiny_checkpoint.h"
#include "weights/weight_file.h"

namespace neutrino::weights::testing {

inline constexpr AdapterLimits kAdapterTestLimits{.rank_max = 64, .bytes_max = 1 << 20};

// Without the care for the disk that a store takes: there are thousands.
inline void write_quickly(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

// The model that they are for, written into `folder`.
inline std::unique_ptr<WeightFile> write_adapter_base(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_quickly(folder / "config.json", to_text(llama_config({})));
  write_quickly(folder / "model.safetensors", serialise(llama_tensors({})));
  return open_weight_file(folder);
}

struct PeftImage {
  json::object config;
  StImage tensors;
};

// What a good one may look like: rsLoRA, patterns, DoRA, a replaced norm; `i` chooses.
inline PeftImage peft_image(int64_t i) {
  Random random(static_cast<uint64_t>(i));
  const int64_t rank = 1 + i % 5;
  PeftImage image{.config = {{"peft_type", "LORA"},
                             {"r", rank},
                             {"lora_alpha", 2 * rank},
                             {"bias", "none"},
                             {"use_rslora", i % 2 == 0},
                             {"use_dora", i % 7 == 3},
                             {"rank_pattern", json::object()},
                             {"alpha_pattern", json::object{{"layers.1.self_attn.v_proj", 3}}},
                             {"target_modules", {"q_proj", "v_proj", "down_proj"}}},
                  .tensors = {}};
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    image.tensors.tensors.push_back(
        random_tensor(random, "base_model.model." + name, i % 3 == 0 ? "BF16" : "F32", std::move(shape)));
  };
  for (const std::string layer : {"model.layers.0.", "model.layers.1."})
    for (const auto& [module, rows, columns] :
         {std::tuple{"self_attn.q_proj", 16, 16}, {"self_attn.v_proj", 8, 16}, {"mlp.down_proj", 16, 24}}) {
      add(layer + module + ".lora_A.weight", {rank, columns});
      add(layer + module + ".lora_B.weight", {rows, rank});
      if (i % 7 == 3) add(layer + module + ".lora_magnitude_vector", {rows});
    }
  if (i % 11 == 5) add("model.norm.weight", {16});
  return image;
}

inline GgufImage gguf_adapter_image(int64_t i) {
  Random random(static_cast<uint64_t>(i));
  GgufImage image;
  image.metadata = {text_value("general.architecture", "llama"), text_value("general.type", "adapter"),
                    text_value("adapter.type", "lora"), f32_value("adapter.lora.alpha", 8)};
  const int64_t rank = 1 + i % 5;
  const compute::DType dtype = i % 2 == 0 ? compute::DType::f32 : compute::DType::f16;
  for (const auto& [name, rows, columns] : {std::tuple{"blk.0.attn_q.weight", 16, 16},
                                            {"blk.0.attn_v.weight", 8, 16},
                                            {"blk.1.ffn_down.weight", 16, 24}}) {
    add_matrix(image, random, std::string(name) + ".lora_a", dtype, rank, columns);
    add_matrix(image, random, std::string(name) + ".lora_b", dtype, rows, rank);
  }
  layout(image);
  return image;
}

}  // namespace neutrino::weights::testing
