// Texts to vectors with a tiny BERT: the same alone and beside others, in whole and in part, and what is refused.
#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"
#include "chat/testing/list_tokenizer.h"
#include "engine/local_embedding_model.h"
#include "models/pooling.h"
#include "models/testing/golden_case.h"

namespace neutrino::engine {
namespace {

using models::testing::GoldenCase;

class Embedder {
 public:
  explicit Embedder(compute::Arithmetic arithmetic = compute::Arithmetic::integer,
                    EmbeddingOptions options = {}, std::string_view name = "bert")
      : golden_(models::testing::read_golden_case(NEUTRINO_SOURCE_DIR "/tests/golden/models", name)) {
    models::testing::write_checkpoint(golden_, folder_.path());
    file_ = weights::open_weight_file(folder_.path());
    backend_ = compute::make_cpu_backend({.arithmetic = arithmetic, .threads = 2});
    model_ = models::load_model(*file_, *backend_);
    embedder_ =
        std::make_unique<LocalEmbeddingModel>(*model_, *backend_, tokenizer_,
                                              chat::ChatModelInfo{.name = "tiny",
                                                                  .context_tokens = model_->context(),
                                                                  .vocab_size = model_->config().vocab_size,
                                                                  .embedding_size = model_->output_columns()},
                                              std::move(options), metrics_, clock_);
  }

  LocalEmbeddingModel& operator*() { return *embedder_; }
  LocalEmbeddingModel* operator->() { return embedder_.get(); }
  const GoldenCase& golden() const { return golden_; }
  // What the model gives by itself, on a backend of its own.
  std::vector<float> expected(const std::vector<int32_t>& tokens) const {
    const auto backend = compute::make_cpu_backend({.arithmetic = backend_->arithmetic(), .threads = 1});
    const auto model = models::load_model(*file_, *backend);
    auto vector = models::testing::run_pooled(*model, *backend, tokens);
    models::l2_normalize(vector.data(), std::ssize(vector));
    return vector;
  }
  std::vector<std::vector<float>> vectors(std::vector<std::vector<int32_t>> inputs) {
    auto result = embedder_->embed({.id = "test", .inputs = std::move(inputs)})->wait();
    if (result.error) throw *result.error;
    return std::move(result.vectors);
  }

 private:
  GoldenCase golden_;
  models::testing::TemporaryFolder folder_;
  std::unique_ptr<weights::WeightFile> file_;
  std::unique_ptr<compute::Backend> backend_;
  std::unique_ptr<models::Model> model_;
  chat::testing::ListTokenizer tokenizer_{{"a", "b"}};
  Metrics metrics_;
  SystemClock clock_;
  std::unique_ptr<LocalEmbeddingModel> embedder_;
};

std::vector<std::vector<int32_t>> some_texts(int64_t count) {
  std::vector<std::vector<int32_t>> texts;
  for (int64_t i = 0; i < count; ++i) {
    auto& text = texts.emplace_back(static_cast<size_t>(1 + i * 7 % 64));
    for (size_t j = 0; j < text.size(); ++j) text[j] = static_cast<int32_t>((i * 31 + j * 17) % 96);
  }
  return texts;
}

TEST(LocalEmbeddingModel, IsTheMeanOfTheHiddenStatesAndOfLengthOne) {
  Embedder embedder(compute::Arithmetic::float32);
  const auto& tokens = embedder.golden().tokens;
  const auto vector = embedder.vectors({tokens})[0];
  EXPECT_NEAR(std::inner_product(vector.begin(), vector.end(), vector.begin(), 0.0), 1.0, 1e-5);
  EXPECT_EQ(vector, embedder.expected(tokens));
}

TEST(LocalEmbeddingModel, NeighboursDoNotChangeBits) {
  for (const auto arithmetic : {compute::Arithmetic::integer, compute::Arithmetic::float32}) {
    Embedder alone(arithmetic), together(arithmetic, {.batch_tokens = 200});
    const auto texts = some_texts(60);
    const auto vectors = together.vectors(texts);
    ASSERT_EQ(vectors.size(), texts.size());
    for (size_t i = 0; i < texts.size(); i += 7) EXPECT_EQ(alone.vectors({texts[i]})[0], vectors[i]) << i;
    EXPECT_NE(vectors[0], vectors[1]);
  }
}

TEST(LocalEmbeddingModel, RequestsShareSteps) {
  Embedder embedder;
  std::vector<std::unique_ptr<chat::Embedding>> running;
  const auto texts = some_texts(40);
  for (const auto& text : texts) running.push_back(embedder->embed({.id = "r", .inputs = {text}}));
  const auto expected = embedder.vectors(texts);
  for (size_t i = 0; i < running.size(); ++i) EXPECT_EQ(running[i]->wait().vectors.at(0), expected[i]);
}

// A pair of texts in one input: the second half of the tokens belongs to the second text.
TEST(LocalEmbeddingModel, ScoresOfAPairEqualTransformers) {
  Embedder embedder(compute::Arithmetic::float32, {}, "bert-rank");
  const std::vector<int32_t>& tokens = embedder.golden().tokens;
  const json::array& expected = embedder.golden().file.at("pair_scores_1e5").as_array();
  std::vector<int32_t> segments(tokens.size(), 0);
  std::fill(segments.begin() + std::ssize(segments) / 2, segments.end(), 1);
  const auto scores = [&](std::vector<std::vector<int32_t>> of_inputs) {
    chat::EmbeddingRequest request{.id = "pair", .inputs = {}, .segments = std::move(of_inputs)};
    request.inputs.assign(std::max<size_t>(request.segments.size(), 1), tokens);
    return embedder->embed(std::move(request))->wait().vectors;
  };
  const auto alone = scores({segments}), beside = scores({{}, segments, {}}), none = scores({});
  ASSERT_EQ(alone.at(0).size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(alone[0][i], expected[i].to_number<double>() * 1e-5, 1e-3);
  EXPECT_EQ(beside[1], alone[0]);
  EXPECT_EQ(beside[0], none[0]);
  EXPECT_NE(none[0], alone[0]);
}

TEST(LocalEmbeddingModel, RefusesWhatCannotRun) {
  Embedder embedder;
  const auto code = [&](std::vector<std::vector<int32_t>> inputs) -> std::optional<ErrorCode> {
    try {
      embedder.vectors(std::move(inputs));
      return std::nullopt;
    } catch (const Error& error) {
      return error.code();
    }
  };
  EXPECT_EQ(code({std::vector<int32_t>{1}}), std::nullopt);
  EXPECT_EQ(code({}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({std::vector<int32_t>{}}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({std::vector<int32_t>{96}}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({std::vector<int32_t>{-1}}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({std::vector<int32_t>(65, 1)}), ErrorCode::invalid_argument);
  EXPECT_THROW(embedder->generate({}), Error);
  EXPECT_THROW(embedder->render({}), Error);
}

TEST(LocalEmbeddingModel, AFullQueueIsRefusedAndDroppedRequestsGoAway) {
  Embedder embedder(compute::Arithmetic::integer, {.queued_inputs_max = 2000});
  const auto texts = some_texts(1500);
  auto first = embedder->embed({.id = "a", .inputs = texts});
  bool refused = false;
  try {
    for (int i = 0; i < 3; ++i) embedder->embed({.id = "b", .inputs = texts});  // dropped at once
  } catch (const Error& error) {
    refused = error.code() == ErrorCode::resource_exhausted;
  }
  EXPECT_TRUE(refused);
  EXPECT_TRUE(embedder->cancel("a"));
  const auto result = first->wait();
  ASSERT_TRUE(result.error);
  EXPECT_EQ(result.error->code(), ErrorCode::cancelled);
  EXPECT_EQ(embedder.vectors({{1, 2}}).size(), 1U);
  EXPECT_EQ(embedder->status().waiting, 0);
}

}  // namespace
}  // namespace neutrino::engine
