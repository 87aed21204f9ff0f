// Adapters that lie, by the thousand: each is refused with an Error that says by which check, or can be served and merged.
#include <gtest/gtest.h>

#include <fstream>

#include "base/testing/hostile_report.h"
#include "weights/adapter.h"
#include "weights/adapter_updates.h"
#include "weights/testing/checkpoint_mutator.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing

constexpr AdapterLimits kLimits{.rank_max = 64, .bytes_max = 1 << 20};

// Written without the care for the disk that a store takes: there are thousands.
void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

std::unique_ptr<WeightFile> write_base(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write(folder / "config.json", to_text(llama_config({})));
  write(folder / "model.safetensors", serialise(llama_tensors({})));
  return open_weight_file(folder);
}

struct PeftImage {
  json::object config;
  StImage tensors;
};

// What a good one may look like: rsLoRA, patterns, DoRA, a replaced head, an embedding.
PeftImage seed_adapter(int64_t i) {
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

TEST(AdapterHostile, thousands_of_mutated_folders_are_refused_or_can_be_served) {
  const TemporaryFolder folder;
  const auto base = write_base(folder.path() / "base");
  const std::filesystem::path path = folder.path() / "adapter";
  std::filesystem::create_directories(path);
  Random random(21);
  SafetensorsMutator safetensors(random);
  JsonMutator json(random);
  HostileReport report;
  while (report.files < budget(1000, 50'000)) {
    PeftImage image = seed_adapter(report.files % 60);
    json::value config = image.config;
    std::optional<std::string> config_text;
    const int64_t percent = random.below(100);
    if (percent < 45) json.change(config);
    if (percent >= 40 && percent < 85) safetensors.change(image.tensors);
    if (percent >= 96) config_text = json.change_text(to_text(config));
    write(path / "adapter_config.json", config_text.value_or(to_text(config)));
    write(path / "adapter_model.safetensors", serialise(image.tensors));
    report.count({"truncated", "header_length", "header_start", "invalid_json"}, [&] {
      if (report.files % 4 == 0) merge_adapter(*base, path, {});
      const AdapterUpdates updates = read_adapter_updates(*base, path, kLimits);
      EXPECT_LE(updates.rank, kLimits.rank_max);
      EXPECT_LE(updates.parameters * 4, 4 * kLimits.bytes_max);
    });
  }
  report.expect_thorough(12);
}

GgufImage seed_gguf(int64_t i) {
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

TEST(AdapterHostile, thousands_of_mutated_gguf_files_are_refused_or_can_be_served) {
  const TemporaryFolder folder;
  const auto base = write_base(folder.path() / "base");
  const std::filesystem::path path = folder.path() / "adapter.gguf";
  GgufMutator mutator(22);
  HostileReport report;
  while (report.files < budget(1000, 50'000)) {
    write(path, mutator.mutate(seed_gguf(report.files)));
    report.count({"magic", "version", "count_limit", "count_room", "truncated", "no_tensors", "format"}, [&] {
      read_adapter_updates(*base, path, kLimits);
      if (report.files % 4 == 0) merge_adapter(*base, path, {});
    });
  }
  report.expect_thorough(12);
}

}  // namespace
}  // namespace neutrino::weights
