// Hostile GGUF files, through the whole of loading: each is an Error, or a model that computes one step.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "models/model.h"
#include "weights/testing/gguf_mutator.h"

namespace neutrino::models {
namespace {

void load_and_step(const weights::WeightFile& file, compute::Backend& backend) {
  file.vocabulary();
  const auto model = load_model(file, backend);
  const auto cache = backend.make_kv_cache(model->kv_cache_shape(1));
  backend.reserve(model->scratch_bytes(3, 1));
  const int32_t last = static_cast<int32_t>(model->config().vocab_size - 1);
  const int32_t tokens[] = {0, last / 2, last}, positions[] = {0, 1, 2}, table[] = {0};
  // A file may say that its context is one token.
  const int64_t count = std::min<int64_t>(3, model->context());
  const int32_t outputs[] = {static_cast<int32_t>(count - 1)};
  const compute::SequenceRows rows{0, count, 0, table};
  backend.begin_step();
  const compute::Tensor logits = model->forward(backend,
                                                {std::span(tokens).first(static_cast<size_t>(count)),
                                                 std::span(positions).first(static_cast<size_t>(count)),
                                                 {&rows, 1},
                                                 outputs},
                                                *cache);
  check(logits.rows == 1 && logits.columns == model->config().vocab_size, "one row of logits is expected");
}

std::unique_ptr<compute::Backend> cpu_backend() {
  return compute::make_cpu_backend({.arithmetic = compute::Arithmetic::integer, .threads = 1, .isa = {}});
}

// T-FUZZ-GGUF, the second half of it.
TEST(HostileWeights, ThousandsOfMutatedFilesAreRefusedOrComputeAStep) {
  const auto cpu = cpu_backend();
  const auto reference = compute::make_reference_backend(compute::Arithmetic::float32);
  int64_t steps = 0;
  const auto report = weights::testing::run_hostile_files(weights::testing::hostile_files(), 3,
                                                          [&](const weights::WeightFile& file) {
                                                            load_and_step(file, *cpu);
                                                            load_and_step(file, *reference);
                                                            ++steps;
                                                          });
  report.print();
  EXPECT_GE(report.past_header * 10, report.files * 7);
  EXPECT_EQ(steps, report.accepted);
  EXPECT_GT(steps, report.files / 100);
}

// T-GGUF-06, from the bytes of a file.
TEST(HostileWeights, BadHyperParametersOfAFileAreErrors) {
  const auto cpu = cpu_backend();
  for (const auto& [what, image] : weights::testing::bad_hyperparameters()) {
    const std::string file = serialise(image);
    EXPECT_THROW(load_and_step(*weights::parse_gguf("bad.gguf", std::as_bytes(std::span(file))), *cpu), Error)
        << what;
  }
}

}  // namespace
}  // namespace neutrino::models
