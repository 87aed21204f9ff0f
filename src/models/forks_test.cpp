// How often a layer calls the threads together, however many rows it has: what goes row by row is a phase of the operation that
// reads it (compute/cpu/cpu_backend.cpp).

#include <gtest/gtest.h>

#include <numeric>

#include "compute/cpu/cpu_backend.h"
#include "models/model.h"
#include "models/testing/fake_weights.h"
#include "models/testing/golden_case.h"

namespace neutrino::models {
namespace {

using testing::FakeWeights;

struct Rows {
  int64_t sequences, each;
};

// Of one forward pass.
int64_t count_forks(int64_t layers, const Rows& shape, compute::Arithmetic arithmetic) {
  const FakeWeights file(FakeWeights::Shape{.hidden = 128,
                                            .intermediate = 256,
                                            .layers = layers,
                                            .context = 512,
                                            .tied = true,
                                            .dtype = compute::DType::q4_1});
  const auto backend = compute::make_cpu_backend({.arithmetic = arithmetic, .threads = 2});
  const auto model = load_model(file, *backend);
  const int64_t rows = shape.sequences * shape.each, blocks = shape.each / compute::kBlockPositions + 1;
  const auto cache = backend->make_kv_cache(model->kv_cache_shape(shape.sequences * blocks));
  backend->reserve(model->scratch_bytes(rows, shape.sequences));
  std::vector<int32_t> tokens(rows, 5), positions, outputs, table(shape.sequences * blocks);
  std::iota(table.begin(), table.end(), 0);
  std::vector<compute::SequenceRows> sequences;
  for (int64_t i = 0; i < shape.sequences; ++i) {
    sequences.push_back({i * shape.each, shape.each, 0, std::span(table).subspan(i * blocks, blocks)});
    for (int64_t r = 0; r < shape.each; ++r) positions.push_back(static_cast<int32_t>(r));
    outputs.push_back(static_cast<int32_t>((i + 1) * shape.each - 1));
  }
  const int64_t before = compute::cpu::forks(*backend);
  model->forward(*backend, {tokens, positions, sequences, outputs}, *cache);
  return compute::cpu::forks(*backend) - before;
}

TEST(Forks, AtMostSixALayer) {
  for (const auto arithmetic : {compute::Arithmetic::integer, compute::Arithmetic::float32})
    for (const Rows& shape :
         {Rows{1, 1}, {1, 4}, {4, 1}, {1, 7}, {8, 1}, {32, 1}, {1, 60}, {1, 300}, {3, 100}}) {
      const int64_t per_layer = (count_forks(6, shape, arithmetic) - count_forks(2, shape, arithmetic)) / 4;
      EXPECT_LE(per_layer, 6) << shape.sequences << " sequences of " << shape.each << " rows";
      EXPECT_GE(per_layer, 4) << "four products a layer, each on both threads";
    }
}

// Norms of each head's queries and keys, and biases.
TEST(Forks, AtMostSixALayerOfTheTwins) {
  for (const char* name : {"qwen3", "qwen2", "phi3"}) {
    const testing::GoldenCase golden =
        testing::read_golden_case(NEUTRINO_SOURCE_DIR "/tests/golden/models", name);
    const testing::TemporaryFolder folder;
    testing::write_checkpoint(golden, folder.path());
    const auto file = weights::open_weight_file(folder.path());
    const auto backend = compute::make_cpu_backend({.threads = 2});
    const auto model = load_model(*file, *backend);
    const int64_t before = compute::cpu::forks(*backend), layers = model->config().num_hidden_layers;
    testing::run_tokens(*model, *backend, std::vector<int32_t>(40, 5));
    EXPECT_LE(compute::cpu::forks(*backend) - before, 6 * layers + 2)
        << name << ": embedding, layers and head";
  }
}

}  // namespace
}  // namespace neutrino::models
