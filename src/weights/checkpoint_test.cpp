// Hugging Face checkpoints opened as canonical files.
#include "weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "weights/testing/safetensors_writer.h"
#include "weights/testing/temporary_folder.h"
#include "weights/testing/tiny_checkpoint.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing
using compute::DType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A folder with a tiny Llama that a test changes before it is opened.
struct Checkpoint {
  TemporaryFolder folder;
  json::object config;
  StImage image;

  explicit Checkpoint(const TinyCheckpoint& options = {})
      : config(llama_config(options)), image(llama_tensors(options)) {}

  std::unique_ptr<WeightFile> open() const {
    folder.put("config.json", to_text(config));
    folder.put("model.safetensors", serialise(image));
    return open_weight_file(folder.path());
  }
  Error refusal() const {
    try {
      (void)open();
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::internal, "it was opened");
  }
  std::vector<float> stored(std::string_view name) {  // F32 only
    const std::string& data = image.find(name)->data;
    std::vector<float> values(data.size() / 4);
    std::memcpy(values.data(), data.data(), data.size());
    return values;
  }
};

TEST(Checkpoint, keys_and_tensors_are_the_canonical_ones) {
  const Checkpoint checkpoint({.tie_word_embeddings = false});
  const auto file = checkpoint.open();
  const Metadata& metadata = file->metadata();
  EXPECT_EQ(metadata.text("general.architecture"), "llama");
  EXPECT_EQ(metadata.integer("llama.block_count"), 2);
  EXPECT_EQ(metadata.integer("llama.context_length"), 256);
  EXPECT_EQ(metadata.integer("llama.embedding_length"), 16);
  EXPECT_EQ(metadata.integer("llama.feed_forward_length"), 24);
  EXPECT_EQ(metadata.integer("llama.attention.head_count"), 4);
  EXPECT_EQ(metadata.integer("llama.attention.head_count_kv"), 2);
  EXPECT_EQ(metadata.integer("llama.rope.dimension_count"), 4);
  EXPECT_EQ(metadata.integer("llama.vocab_size"), 32);
  EXPECT_EQ(metadata.number("llama.rope.freq_base"), 10000.0);
  EXPECT_EQ(metadata.number("llama.attention.layer_norm_rms_epsilon"), 1e-5);
  EXPECT_EQ(file->tensors().size(), 3u + 2 * 9);
  const TensorEntry* up = file->find("blk.1.ffn_up.weight");
  ASSERT_TRUE(up);
  EXPECT_THAT(up->shape, ElementsAre(24, 16));
  EXPECT_EQ(up->dtype, DType::f32);
  EXPECT_NE(up->data, nullptr) << "read in place";
  EXPECT_EQ(file->find("blk.1.attn_q.weight")->data, nullptr) << "made when read";
  EXPECT_EQ(file->find("model.norm.weight"), nullptr);
}

// Hugging Face's rows 0..3 of a head of four dimensions are GGUF's 0, 2, 1, 3.
TEST(Checkpoint, rows_of_q_and_k_are_paired_for_rotation) {
  Checkpoint checkpoint({.attention_bias = true});
  const auto file = checkpoint.open();
  const std::vector<float> stored = checkpoint.stored("model.layers.0.self_attn.q_proj.weight");
  const std::vector<float> bias = checkpoint.stored("model.layers.0.self_attn.q_proj.bias");
  const std::vector<float> read = values_of(*file, "blk.0.attn_q.weight");
  const std::vector<float> read_bias = values_of(*file, "blk.0.attn_q.bias");
  ASSERT_EQ(read.size(), 256u);
  const int64_t order[] = {0, 2, 1, 3};
  for (int64_t row = 0; row < 16; ++row) {
    const int64_t from = row / 4 * 4 + order[row % 4];
    for (int64_t column = 0; column < 16; ++column)
      EXPECT_EQ(read[static_cast<size_t>(row * 16 + column)],
                stored[static_cast<size_t>(from * 16 + column)]);
    EXPECT_EQ(read_bias[static_cast<size_t>(row)], bias[static_cast<size_t>(from)]);
  }
  EXPECT_EQ(values_of(*file, "blk.0.attn_v.weight"),
            checkpoint.stored("model.layers.0.self_attn.v_proj.weight"));
  EXPECT_EQ(values_of(*file, "blk.0.attn_v.bias"), checkpoint.stored("model.layers.0.self_attn.v_proj.bias"));
}

TEST(Checkpoint, half_precision_stays_what_it_is) {
  for (const auto& [name, dtype] : {std::pair{"F16", DType::f16}, {"BF16", DType::bf16}}) {
    Checkpoint checkpoint({.dtype = name});
    const auto file = checkpoint.open();
    for (const TensorEntry& tensor : file->tensors()) EXPECT_EQ(tensor.dtype, dtype) << tensor.name;
    uint16_t stored, read;
    std::memcpy(&stored,
                checkpoint.image.find("model.layers.1.self_attn.k_proj.weight")->data.data() + 2 * 32, 2);
    const TensorData data = file->read(*file->find("blk.1.attn_k.weight"));
    std::memcpy(&read, data.data + 1 * 32, 2);  // row 1 was row 2
    EXPECT_EQ(read, stored);
  }
}

TEST(Checkpoint, tensors_that_are_not_aligned_are_read_all_the_same) {
  Checkpoint checkpoint;
  checkpoint.image.tensors.insert(
      checkpoint.image.tensors.begin(),
      {.name = "x.rotary_emb.inv_freq", .dtype = "U8", .shape = {3}, .data = "abc"});
  const auto file = checkpoint.open();
  EXPECT_EQ(file->find("blk.0.ffn_up.weight")->data, nullptr);
  EXPECT_EQ(values_of(*file, "blk.0.ffn_up.weight"), checkpoint.stored("model.layers.0.mlp.up_proj.weight"));
  EXPECT_EQ(values_of(*file, "output_norm.weight"), checkpoint.stored("model.norm.weight"));
}

TEST(Checkpoint, doubles_and_plain_fp8_become_floats) {
  Checkpoint checkpoint;
  StImageTensor& norm = *checkpoint.image.find("model.norm.weight");
  norm.dtype = "F8_E4M3";
  norm.data = std::string("\x38\xb8\x7e\x01", 4) + std::string(12, '\0');
  StImageTensor& other = *checkpoint.image.find("model.layers.0.input_layernorm.weight");
  other.dtype = "F64";
  other.data.clear();
  for (int i = 0; i < 16; ++i) {
    const double value = 0.1 * i;
    other.data.append(reinterpret_cast<const char*>(&value), 8);
  }
  const auto file = checkpoint.open();
  const std::vector<float> values = values_of(*file, "output_norm.weight");
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -1.0f);
  EXPECT_EQ(values[2], 448.0f);
  EXPECT_EQ(values[3], std::ldexp(1.0f, -9));
  EXPECT_EQ(values_of(*file, "blk.0.attn_norm.weight")[7], static_cast<float>(0.1 * 7));
}

TEST(Checkpoint, numbers_that_only_python_writes_do_no_harm) {
  Checkpoint checkpoint;
  checkpoint.config["_name_or_path"] = "Infinity \" NaN";
  (void)checkpoint.open();
  std::string config = to_text(checkpoint.config);
  config.insert(1, R"("time_step_limit":[0.0,Infinity],"low":-Infinity,"none":[NaN],)");
  checkpoint.folder.put("config.json", config);
  EXPECT_NE(open_weight_file(checkpoint.folder.path())->find("output_norm.weight"), nullptr);
  checkpoint.folder.put("config.json", R"({"a":Infinite})");
  EXPECT_THROW((void)open_weight_file(checkpoint.folder.path()), Error);
}

TEST(Checkpoint, a_tied_head_is_left_out) {
  Checkpoint checkpoint({.tie_word_embeddings = false});
  EXPECT_NE(checkpoint.open()->find("output.weight"), nullptr);
  checkpoint.config["tie_word_embeddings"] = true;
  EXPECT_EQ(checkpoint.open()->find("output.weight"), nullptr);
}

TEST(Checkpoint, nothing_is_dropped_silently) {
  Checkpoint checkpoint;
  checkpoint.image.tensors.push_back(
      {.name = "model.layers.0.extra.weight", .dtype = "F32", .shape = {1}, .data = "1234"});
  EXPECT_EQ(checkpoint.refusal().reason(), "tensor_unknown");
  EXPECT_THAT(checkpoint.refusal().message(), HasSubstr("model.layers.0.extra.weight"));
  checkpoint.image.tensors.back().name = "model.layers.0.self_attn.rotary_emb.inv_freq";
  EXPECT_NO_THROW(checkpoint.open());
}

TEST(Checkpoint, what_is_missing_or_no_weight_is_named) {
  Checkpoint checkpoint;
  std::erase_if(checkpoint.image.tensors,
                [](auto& t) { return t.name == "model.layers.1.mlp.down_proj.weight"; });
  EXPECT_EQ(checkpoint.refusal().reason(), "tensor_missing");
  EXPECT_THAT(checkpoint.refusal().message(), HasSubstr("model.layers.1.mlp.down_proj.weight"));
  Checkpoint integers;
  integers.image.find("model.norm.weight")->dtype = "I32";
  EXPECT_EQ(integers.refusal().reason(), "tensor_type");
  EXPECT_THAT(integers.refusal().message(), HasSubstr("I32"));
}

TEST(Checkpoint, shapes_that_contradict_the_configuration_are_refused) {
  Checkpoint checkpoint;
  checkpoint.config["num_attention_heads"] = 8;
  checkpoint.config["head_dim"] = 4;  // 32 rows of 16
  EXPECT_EQ(checkpoint.refusal().reason(), "tensor_shape");
}

TEST(Checkpoint, text_models_inside_of_others_are_found) {
  for (const char* prefix : {"language_model.", "model.language_model."}) {
    Checkpoint checkpoint({.tie_word_embeddings = false});
    json::object text = checkpoint.config;
    text.erase("architectures");
    checkpoint.config = {{"architectures", {"LlamaForCausalLM"}},
                         {"model_type", "llava"},
                         {"text_config", text},
                         {"vision_config", json::object()}};
    for (StImageTensor& tensor : checkpoint.image.tensors)
      if (std::string_view(prefix) == "language_model.")
        tensor.name = prefix + tensor.name;
      else if (tensor.name.starts_with("model."))
        tensor.name = prefix + tensor.name.substr(6);
    checkpoint.image.tensors.push_back(
        {.name = "vision_tower.x", .dtype = "F32", .shape = {1}, .data = "1234"});
    const auto file = checkpoint.open();
    EXPECT_EQ(file->metadata().integer("llama.block_count"), 2);
    EXPECT_EQ(file->tensors().size(), 21u);
  }
}

TEST(Checkpoint, a_decoder_without_its_head_is_found) {
  Checkpoint checkpoint;
  for (StImageTensor& tensor : checkpoint.image.tensors) tensor.name = tensor.name.substr(6);  // "model."
  EXPECT_EQ(checkpoint.open()->tensors().size(), 20u);
}

TEST(Checkpoint, opens_by_folder_by_file_and_by_shard) {
  Checkpoint checkpoint;
  checkpoint.open();
  EXPECT_EQ(open_weight_file(checkpoint.folder.path() / "model.safetensors")->tensors().size(), 20u);
  StImage first = checkpoint.image, second = checkpoint.image;
  first.tensors.resize(5);
  second.tensors.erase(second.tensors.begin(), second.tensors.begin() + 5);
  std::filesystem::remove(checkpoint.folder.path() / "model.safetensors");
  const auto path = checkpoint.folder.put("model-00001-of-00002.safetensors", serialise(first));
  checkpoint.folder.put("model-00002-of-00002.safetensors", serialise(second));
  EXPECT_EQ(open_weight_file(path)->tensors().size(), 20u);
  EXPECT_EQ(open_weight_file(checkpoint.folder.path())->tensors().size(), 20u);
  std::filesystem::remove(checkpoint.folder.path() / "config.json");
  EXPECT_THROW(open_weight_file(path), Error);
}

TEST(Checkpoint, chat_templates_stand_in_several_places) {
  Checkpoint checkpoint;
  EXPECT_EQ(checkpoint.open()->chat_template(), std::nullopt);
  checkpoint.folder.put("tokenizer_config.json", R"({"chat_template":"one"})");
  EXPECT_EQ(checkpoint.open()->chat_template(), "one");
  checkpoint.folder.put(
      "tokenizer_config.json",
      R"({"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"two"}]})");
  EXPECT_EQ(checkpoint.open()->chat_template(), "two");
  checkpoint.folder.put("chat_template.jinja", "three");
  EXPECT_EQ(checkpoint.open()->chat_template(), "three");
}

TEST(Checkpoint, name_and_licence_come_from_the_folder) {
  Checkpoint checkpoint;
  checkpoint.folder.put(
      "README.md", "---\nlibrary_name: transformers\nlicense: apache-2.0\n---\n# Model\nlicense: other\n");
  const auto file = checkpoint.open();
  EXPECT_EQ(file->metadata().text("general.license"), "apache-2.0");
  EXPECT_EQ(file->metadata().text("general.name"), checkpoint.folder.path().filename().string());
}

TEST(Checkpoint, modules_of_sentence_transformers_are_part_of_it) {
  Checkpoint checkpoint;
  checkpoint.folder.put("modules.json",
                        R"([{"path":"","type":"Transformer"},{"path":"2_Dense","type":"Dense"}])");
  checkpoint.folder.put("2_Dense/config.json", R"({"in_features":16})");
  StImage dense;
  dense.tensors.push_back({.name = "linear.weight", .dtype = "F32", .shape = {1}, .data = "1234"});
  checkpoint.folder.put("2_Dense/model.safetensors", serialise(dense));
  EXPECT_THAT(checkpoint.refusal().message(), HasSubstr("2_Dense.linear.weight"))
      << "Llama has no use for it";
  for (const char* path : {"../x", "/etc", "a/b", ".."}) {
    checkpoint.folder.put("modules.json", to_text(json::array{json::object{{"path", path}}}));
    EXPECT_EQ(checkpoint.refusal().reason(), "module_path") << path;
  }
}

// A mapping function decides on nothing but names: an unknown architecture is refused with the list of the known ones.
TEST(Checkpoint, unknown_architectures_are_refused_by_name) {
  Checkpoint checkpoint;
  checkpoint.config["architectures"] = json::array{"MagicForCausalLM"};
  checkpoint.config["model_type"] = "magic";
  EXPECT_EQ(checkpoint.refusal().code(), ErrorCode::unimplemented);
  EXPECT_THAT(checkpoint.refusal().message(), HasSubstr("MagicForCausalLM"));
  EXPECT_THAT(checkpoint.refusal().message(), HasSubstr("LlamaForCausalLM"));
}

}  // namespace
}  // namespace neutrino::weights
