// Checkpoints and split sets that lie, by the thousand: each is refused with an Error, or can be used. T-ST-01's list by hand
// is in safetensors_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "weights/checkpoint_source.h"
#include "weights/gguf_split.h"
#include "weights/safetensors.h"
#include "weights/testing/checkpoint_mutator.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/gguf_split_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing

// Its own allocation, of the exact size, so that AddressSanitizer sees the first byte read behind it.
struct Bytes {
  std::unique_ptr<std::byte[]> data;
  size_t size;
  explicit Bytes(const std::string& text) : data(new std::byte[text.size()]), size(text.size()) {
    std::memcpy(data.get(), text.data(), size);
  }
  std::span<const std::byte> span() const { return {data.get(), size}; }
};

TEST(CheckpointHostile, thousands_of_mutated_safetensors_files_are_refused_or_can_be_read) {
  Random random(11);
  SafetensorsMutator mutator(random);
  HostileReport report;
  while (report.files < budget(2000, 200'000)) {
    const TinyCheckpoint options{.dtype = report.files % 2 == 0 ? "F32" : "BF16",
                                 .attention_bias = report.files % 3 == 0};
    const Bytes file(mutator.mutate(llama_tensors(options)));
    report.count({"truncated", "header_length", "header_start", "invalid_json"}, [&] {
      volatile int sum = 0;
      for (const StTensor& tensor : parse_safetensors(file.span()).tensors)
        for (int64_t i = 0; i < tensor.bytes; ++i) sum = sum + std::to_integer<int>(tensor.data[i]);
    });
  }
  report.expect_thorough(12);
}

// ---- whole folders

// Written without the care for the disk that a store takes: there are thousands.
void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

// A good tiny Llama in one file or three, plain or with rope scaling, or in FP8.
CheckpointImage seed_checkpoint(int64_t i) {
  TinyCheckpoint options{.tie_word_embeddings = i % 2 == 0, .seed = static_cast<uint64_t>(i)};
  options.dtype = i % 3 == 0 ? "BF16" : "F32";
  CheckpointImage image{.config = llama_config(options), .shards = {llama_tensors(options)}};
  static const char* const kScalings[] = {
      "null",
      R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64})",
      R"({"type":"yarn","factor":4.0,"original_max_position_embeddings":64,"mscale":1.0,"mscale_all_dim":0.7})",
      R"({"rope_type":"longrope","long_factor":[1.0,2.0],"short_factor":[1.0,1.5],"original_max_position_embeddings":64})",
      R"({"type":"linear","factor":2.0})"};
  image.config["rope_scaling"] = parse_json(kScalings[i % 5]);
  if (i % 4 == 1) {
    StImageTensor& up = *image.shards[0].find("model.layers.0.mlp.up_proj.weight");
    up = {.name = up.name, .dtype = "F8_E4M3", .shape = up.shape, .data = std::string(24 * 16, '\x31')};
    image.shards[0].tensors.push_back(
        {.name = up.name + "_scale_inv", .dtype = "F32", .shape = {1, 1}, .data = floats_as("F32", {0.5f})});
    image.config["quantization_config"] =
        json::object{{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  }
  if (i % 3 == 1) {
    image.shards.resize(3);
    while (image.shards[0].tensors.size() > 8) {
      image.shards[1 + image.shards[0].tensors.size() % 2].tensors.push_back(image.shards[0].tensors.back());
      image.shards[0].tensors.pop_back();
    }
  }
  return image;
}

TEST(CheckpointHostile, thousands_of_mutated_folders_are_refused_or_can_be_read) {
  const TemporaryFolder folder;
  Random random(12);
  SafetensorsMutator safetensors(random);
  JsonMutator json(random);
  HostileReport report;
  while (report.files < budget(1100, 50'000)) {
    CheckpointImage image = seed_checkpoint(report.files % 30);
    json::value config = image.config, index = image.index();
    std::optional<std::string> config_text, index_text;
    const int64_t percent = random.below(100);
    if (percent < 50) json.change(config);
    if (percent < 10) json.change(config);
    if (percent >= 50 && percent < 75)
      safetensors.change(
          image.shards[static_cast<size_t>(random.below(static_cast<int64_t>(image.shards.size())))]);
    if (percent >= 75 && percent < 93) json.change(image.shards.size() > 1 ? index : config);
    if (percent >= 93 && percent < 96) config_text = json.change_text(to_text(config));
    if (percent >= 96) index_text = json.change_text(to_text(index));
    write(folder.path() / "config.json", config_text.value_or(to_text(config)));
    std::filesystem::remove(folder.path() / "model.safetensors.index.json");
    std::filesystem::remove(folder.path() / "model.safetensors");
    if (image.shards.size() > 1)
      write(folder.path() / "model.safetensors.index.json", index_text.value_or(to_text(index)));
    for (size_t i = 0; i < image.shards.size(); ++i)
      write(folder.path() / image.shard_file(i), serialise(image.shards[i]));
    report.count({"truncated", "header_length", "header_start", "invalid_json"},
                 [&] { read_tensors(*open_weight_file(folder.path())); });
  }
  report.expect_thorough(15);
}

// ---- quantised parts

TEST(CheckpointHostile, thousands_of_mutated_quantised_tensors_are_refused_or_can_be_read) {
  const std::filesystem::path golden = std::filesystem::path(NEUTRINO_SOURCE_DIR) / "tests/golden/checkpoint";
  std::vector<std::pair<StImage, json::value>> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(golden)) {
    const std::string name = entry.path().filename().string();
    if (name.find(".expected.") == name.npos) continue;
    SafetensorsSet parts, expected;
    parts.add(golden / (name.substr(0, name.find('.')) + ".safetensors"), "", Links::follow);
    expected.add(entry.path(), "", Links::follow);
    StImage image;
    for (const auto& [tensor, part] : parts.tensors())
      image.tensors.push_back(
          {.name = tensor,
           .dtype = std::string(st_type_name(part.type)),
           .shape = part.shape,
           .data = std::string(reinterpret_cast<const char*>(part.data), static_cast<size_t>(part.bytes))});
    const SafetensorsFile header = parse_safetensors(expected.files()[0].bytes());
    seeds.emplace_back(image, parse_json(header.metadata.at(0).second));
  }
  ASSERT_GE(seeds.size(), 20u);
  const TemporaryFolder folder;
  Random random(13);
  SafetensorsMutator safetensors(random);
  JsonMutator json(random);
  HostileReport report;
  while (report.files < budget(1000, 50'000)) {
    auto [image, config] = seeds[static_cast<size_t>(report.files) % seeds.size()];
    if (random.chance(0.3))
      json.change(config);
    else
      safetensors.change(image);
    if (!config.is_object()) continue;
    const std::filesystem::path path = folder.path() / "x.safetensors";
    write(path, serialise(image));
    report.count({"truncated", "header_length", "header_start", "invalid_json"}, [&] {
      SafetensorsSet set;
      set.add(path, "", Links::follow);
      volatile int sum = 0;
      for (const auto& [name, source] : make_sources(set, config.get_object())) {
        if (!source->unusable().empty()) continue;
        const int64_t bytes = compute::row_bytes(source->dtype(), source->columns()).value() * source->rows();
        for (int64_t m = 0; m < source->matrices(); ++m) {
          const TensorData data = source->matrix(m);
          for (int64_t i = 0; i < bytes; ++i) sum = sum + std::to_integer<int>(data.data[i]);
        }
      }
    });
  }
  report.expect_thorough(8);
}

// ---- split GGUF

TEST(CheckpointHostile, thousands_of_mutated_split_sets_are_refused_or_can_be_read) {
  const auto seeds = hostile_seeds();
  Random random(14);
  GgufMutator mutator(15);
  HostileReport report;
  while (report.files < budget(1500, 50'000)) {
    std::vector<GgufImage> images =
        split(seeds[static_cast<size_t>(report.files) % seeds.size()], 3, report.files % 4 == 0);
    const auto index = static_cast<size_t>(random.below(3));
    static constexpr const char* kKeys[] = {"split.no", "split.count", "split.tensors.count"};
    static constexpr int64_t kNumbers[] = {0, 1, 2, 3, 4, -1, 65535, INT32_MAX, INT64_MAX, INT64_MIN};
    const int64_t percent = random.below(100);
    if (percent < 30)
      images[index].set(number_value(kKeys[random.below(3)], GgufType::i64, kNumbers[random.below(10)]));
    if (percent >= 30 && percent < 40) std::swap(images[index], images[static_cast<size_t>(random.below(3))]);
    if (percent >= 40 && percent < 50) images.erase(images.begin() + static_cast<int64_t>(index));
    if (percent >= 50 && percent < 60 && !images[index].tensors.empty())
      images[index].tensors.push_back(images[0].tensors.empty() ? images[1].tensors[0]
                                                                : images[0].tensors[0]),
          layout(images[index]);
    std::vector<Bytes> files;
    for (size_t i = 0; i < images.size(); ++i)
      files.emplace_back(percent >= 60 && i == index ? mutator.mutate(images[i]) : serialise(images[i]));
    report.count({"magic", "version", "count_limit", "count_room", "truncated"}, [&] {
      std::vector<std::unique_ptr<WeightFile>> parts;
      for (const Bytes& file : files) parts.push_back(parse_gguf("part.gguf", file.span()));
      read_everything(*join_gguf_parts("part.gguf", std::move(parts)));
    });
  }
  report.expect_thorough(15);
}

}  // namespace
}  // namespace neutrino::weights
