// all-MiniLM-L6-v2 from its safetensors folder against sentence-transformers: tests/golden/minilm.* hold 200 sentences and
// their vectors (made by tools/make_embedding_golden.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "engine/local_embedding_model.h"

namespace neutrino::engine {
namespace {

constexpr int64_t kColumns = 384;
const std::filesystem::path kGolden = NEUTRINO_SOURCE_DIR "/tests/golden";

std::vector<std::string> read_sentences() {
  std::vector<std::string> sentences;
  const json::value list = parse_json(read_file(kGolden / "minilm.json", 1 << 20));
  for (const json::value& text : list.as_array()) sentences.emplace_back(text.as_string());
  return sentences;
}

// int16 in units of 1e-5.
std::vector<float> read_vectors() {
  const std::string bytes = read_file(kGolden / "minilm.bin", 1 << 20);
  std::vector<int16_t> scaled(bytes.size() / 2);
  std::memcpy(scaled.data(), bytes.data(), bytes.size());
  return {scaled.begin(), scaled.end()};
}

double cosine(const float* a, const float* b) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < kColumns; ++i)
    ab += double{a[i]} * b[i], aa += double{a[i]} * a[i], bb += double{b[i]} * b[i];
  return ab / std::sqrt(aa * bb);
}

double lowest_cosine(compute::Arithmetic arithmetic, const char* folder) {
  const auto file = weights::open_weight_file(folder);
  const auto tokenizer = tokenizer::make_tokenizer(file->vocabulary());
  const auto backend = compute::make_cpu_backend({.arithmetic = arithmetic, .threads = 2});
  const auto model = models::load_model(*file, *backend);
  Metrics metrics;
  const SystemClock clock;
  LocalEmbeddingModel embedder(*model, *backend, *tokenizer,
                               {.context_tokens = model->context(),
                                .vocab_size = tokenizer->size(),
                                .embedding_size = model->output_columns()},
                               {}, metrics, clock);
  const std::vector<std::string> sentences = read_sentences();
  const std::vector<float> expected = read_vectors();
  EXPECT_EQ(sentences.size() * kColumns, expected.size());
  chat::EmbeddingRequest request;
  for (const std::string& text : sentences) request.inputs.push_back(embedder.tokenize(text, true, false));
  const chat::EmbeddingResult result = embedder.embed(std::move(request))->wait();
  double lowest = 1;
  for (size_t i = 0; i < sentences.size(); ++i) {
    const double value = cosine(result.vectors.at(i).data(), expected.data() + i * kColumns);
    lowest = value < lowest ? value : lowest;
    EXPECT_GE(value, 0.9999) << sentences[i];
  }
  return lowest;
}

TEST(MiniLm, EqualsSentenceTransformers) {
  const char* folder = std::getenv("NEUTRINO_TEST_EMBEDDING_MODEL");
  if (!folder || !std::filesystem::exists(folder)) GTEST_SKIP() << "all-MiniLM-L6-v2 is not there";
  const double exact = lowest_cosine(compute::Arithmetic::float32, folder);
  const double normal = lowest_cosine(compute::Arithmetic::integer, folder);
  std::printf("lowest cosine: exact %.8f, normal %.8f\n", exact, normal);
  EXPECT_GE(exact, 0.999999);
  EXPECT_GE(normal, 0.9999);
}

}  // namespace
}  // namespace neutrino::engine
