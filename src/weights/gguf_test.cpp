#include "weights/gguf.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>

#include "weights/testing/gguf_image_reader.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/gguf_writer.h"

namespace neutrino::weights {
namespace {

using compute::DType;
using testing::GgufImage;
using testing::tiny_llama;
using testing::TinyLlama;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Gguf, a_whole_model_is_read) {
  const std::string file = serialise(tiny_llama({.dtype = DType::q4_1}));
  const auto weights = parse_gguf("tiny.gguf", bytes_of(file));
  EXPECT_EQ(weights->format(), "gguf v3");
  EXPECT_EQ(weights->path(), "tiny.gguf");
  EXPECT_EQ(weights->metadata().text("general.architecture"), "llama");
  EXPECT_EQ(weights->metadata().integer("llama.embedding_length"), 32);
  EXPECT_FLOAT_EQ(static_cast<float>(weights->metadata().number("llama.rope.freq_base").value()), 10000.0f);
  EXPECT_EQ(weights->metadata().boolean("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(weights->metadata().integer("llama.expert_count"), std::nullopt);
  EXPECT_FALSE(weights->metadata().has("llama.expert_count"));
  EXPECT_EQ(weights->tensors().size(), 11u);
  EXPECT_TRUE(weights->chat_template().value().starts_with("{% for message"));
}

TEST(Gguf, tensors_are_views_of_the_file_with_the_outermost_dimension_first) {
  const GgufImage image = tiny_llama({.dtype = DType::q8_0});
  const std::string file = serialise(image);
  const auto weights = parse_gguf("tiny.gguf", bytes_of(file));
  const TensorEntry* tensor = weights->find("blk.0.ffn_down.weight");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(tensor->shape, (std::vector<int64_t>{32, 64}));
  EXPECT_EQ(tensor->bytes, 32 * 2 * 34);
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(tensor->data), static_cast<size_t>(tensor->bytes)),
            image.tensors[9].data);
  const auto view = weights->matrix("blk.0.ffn_down.weight", 32, 64);
  EXPECT_EQ(view.data, tensor->data);
  EXPECT_EQ(view.rows, 32);
  EXPECT_EQ(weights->vector("output_norm.weight", 32), std::vector<float>(32, 1.0f));
  EXPECT_EQ(weights->find("no.such.tensor"), nullptr);
}

TEST(Gguf, a_shape_that_a_model_does_not_expect_is_named) {
  const std::string file = serialise(tiny_llama());
  const auto weights = parse_gguf("tiny.gguf", bytes_of(file));
  try {
    weights->matrix("output_norm.weight", 32, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "tensor \"output_norm.weight\" must have shape (32, 1), got (32)");
  }
  EXPECT_THROW(weights->vector("output_norm.weight", 33), Error);
  EXPECT_THROW(weights->vector("missing", 32), Error);
}

TEST(Gguf, the_vocabulary_is_plain_data) {
  const std::string file = serialise(tiny_llama({.extra_tokens = 2}));
  const auto vocabulary = parse_gguf("tiny.gguf", bytes_of(file))->vocabulary();
  EXPECT_EQ(vocabulary.model, "gpt2");
  EXPECT_EQ(vocabulary.pre, "smollm");
  EXPECT_EQ(vocabulary.tokens.size(), 269u);
  EXPECT_EQ(vocabulary.tokens[1], "<|im_start|>");
  EXPECT_EQ(vocabulary.kinds[1], tokenizer::TokenKind::control);
  EXPECT_EQ(vocabulary.kinds[268], tokenizer::TokenKind::unused);
  EXPECT_EQ(vocabulary.merges[2], "he ll");
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.eos, 2);
  EXPECT_EQ(vocabulary.eot, std::nullopt);
  EXPECT_EQ(vocabulary.add_bos, false);
  EXPECT_EQ(vocabulary.add_eos, std::nullopt);
}

// The numbers are the format's; a reader that confuses two types of one size would pass without this table.
TEST(Gguf, every_weight_type_is_read) {
  const std::map<std::string_view, uint32_t> numbers = {
      {"f32", 0},      {"f16", 1},     {"q4_0", 2},     {"q4_1", 3},   {"q5_0", 6},    {"q5_1", 7},
      {"q8_0", 8},     {"q2_k", 10},   {"q3_k", 11},    {"q4_k", 12},  {"q5_k", 13},   {"q6_k", 14},
      {"iq2_xxs", 16}, {"iq2_xs", 17}, {"iq3_xxs", 18}, {"iq1_s", 19}, {"iq4_nl", 20}, {"iq3_s", 21},
      {"iq2_s", 22},   {"iq4_xs", 23}, {"iq1_m", 29},   {"bf16", 30},  {"tq1_0", 34},  {"tq2_0", 35},
      {"mxfp4", 39},   {"nvfp4", 40},
  };
  EXPECT_EQ(numbers.size(), compute::testing::weight_dtypes().size());
  for (const DType dtype : compute::testing::weight_dtypes()) {
    TinyLlama options = testing::tiny_sizes(dtype);
    options.tie_word_embeddings = false;
    GgufImage image = tiny_llama(options);
    EXPECT_EQ(image.tensors[0].type, numbers.at(compute::dtype_info(dtype).name));
    const std::string file = serialise(image);
    const auto weights = parse_gguf("tiny.gguf", bytes_of(file));
    EXPECT_EQ(weights->matrix("output.weight", 267, options.hidden_size).dtype, dtype);
  }
}

TEST(Gguf, a_type_that_is_not_read_is_named) {
  for (const auto& [number, text] :
       std::map<uint32_t, std::string>{{15, "q8_K (15)"}, {26, "i32 (26)"}, {4, "4"}, {1000, "1000"}}) {
    GgufImage image = tiny_llama();
    image.tensors[0].type = number;
    const std::string file = serialise(image);
    try {
      parse_gguf("tiny.gguf", bytes_of(file));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unimplemented);
      EXPECT_TRUE(error.message().starts_with("tensor \"token_embd.weight\" has type " + text +
                                              ", which is not read; read are f32, f16, q4_0,"))
          << error.message();
    }
  }
}

TEST(Gguf, the_fuzzers_image_of_a_file_is_the_file) {
  for (const GgufImage& image : testing::hostile_seeds()) {
    const std::string file = serialise(image);
    const auto read = testing::read_image(bytes_of(file));
    ASSERT_TRUE(read);
    EXPECT_EQ(serialise(*read), file);
  }
  EXPECT_FALSE(testing::read_image(bytes_of("GGUF")));
}

// The real file of the project, where there is one.
TEST(Gguf, smollm2_opens_in_milliseconds) {
  const char* path = std::getenv("NEUTRINO_TEST_MODEL");
  if (!path) GTEST_SKIP() << "NEUTRINO_TEST_MODEL is not set";
  const auto start = std::chrono::steady_clock::now();
  const auto weights = open_weight_file(path);
  const auto vocabulary = weights->vocabulary();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("opened and vocabulary read in %.1f ms\n", took.count());
  EXPECT_EQ(weights->tensors().size(), 272u);
  EXPECT_EQ(weights->matrix("token_embd.weight", 49152, 576).columns, 576);
  EXPECT_EQ(weights->vector("output_norm.weight", 576).size(), 576u);
  EXPECT_EQ(vocabulary.tokens.size(), 49152u);
  EXPECT_EQ(vocabulary.merges.size(), 48900u);
  EXPECT_EQ(vocabulary.pre, "smollm");
  EXPECT_TRUE(weights->chat_template().has_value());
}

}  // namespace
}  // namespace neutrino::weights
