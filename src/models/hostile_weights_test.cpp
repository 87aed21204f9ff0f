// Hostile GGUF files, through the whole of loading: each is an Error, or a model that computes one step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "models/model.h"
#include "models/testing/changed_weights.h"
#include "models/testing/golden_case.h"
#include "weights/testing/gguf_mutator.h"

namespace neutrino::models {
namespace {

void load_and_step(const weights::WeightFile& file, compute::Backend& backend) {
  file.vocabulary();
  const auto model = load_model(file, backend);
  const auto cache = backend.make_kv_cache(model->kv_cache_shape(1, 1));
  backend.reserve(model->scratch_bytes(3, 1));
  const int32_t last = static_cast<int32_t>(model->config().vocab_size - 1);
  const int32_t tokens[] = {0, last / 2, last}, positions[] = {0, 1, 2}, table[] = {0};
  // A file may say that its context is one token.
  const int64_t count = std::min<int64_t>(3, model->context());
  const int32_t outputs[] = {static_cast<int32_t>(count - 1)};
  const compute::SequenceRows rows{.rows = count, .block_table = table, .state_slot = 0};
  backend.begin_step({});
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

// What could stand in a key instead of `value`: sizes that are no sizes, numbers that are none, another type, arrays of
// another length.
std::vector<weights::MetadataValue> hostile_values(const weights::MetadataValue& value, int64_t layers) {
  using Integers = std::vector<int64_t>;
  using Limits = std::numeric_limits<int64_t>;
  const auto size = static_cast<size_t>(layers);
  std::vector<weights::MetadataValue> values{std::string("magic"), Integers{}, Integers(size + 1, 1),
                                             Integers(size, -1), Integers(size, Limits::max())};
  for (const int64_t number : {int64_t{0}, int64_t{-1}, int64_t{1} << 31, Limits::max(), Limits::min()})
    values.emplace_back(number);
  for (const double number : {0.0, -1.0, 1e300, std::nan(""), HUGE_VAL, -HUGE_VAL})
    values.emplace_back(number);
  if (const auto* array = std::get_if<Integers>(&value)) {
    Integers swapped = *array;
    std::rotate(swapped.begin(), swapped.begin() + 1, swapped.end());
    values.emplace_back(std::move(swapped));
    values.emplace_back(Integers(array->size(), 0));
  }
  return values;
}

// The sizes without which no model is what it says.
bool must_be_refused(std::string_view key, const weights::MetadataValue& value) {
  for (const char* name : {".block_count", ".embedding_length", ".context_length", ".attention.head_count"})
    if (key.ends_with(name)) {
      const int64_t* number = std::get_if<int64_t>(&value);
      return !number || *number <= 0 || *number >= int64_t{1} << 31;
    }
  return false;
}

// One golden case of each architecture, so that a new architecture is under this test as soon as it has a case.
TEST(HostileWeights, BadHyperParametersOfEveryArchitectureAreRefusedOrComputeAStep) {
  const std::filesystem::path folder = NEUTRINO_SOURCE_DIR "/tests/golden/models";
  const auto cpu = cpu_backend();
  std::set<std::string> seen;
  int64_t refused = 0, files = 0;
  for (const std::string& name : testing::golden_case_names(folder)) {
    const testing::TemporaryFolder checkpoint;
    testing::write_checkpoint(testing::read_golden_case(folder, name), checkpoint.path());
    const auto file = weights::open_weight_file(checkpoint.path());
    const ModelConfig config = read_model_config(*file);
    if (config.bidirectional || !seen.insert(config.architecture).second) continue;
    for (const std::string& key : file->metadata().keys()) {
      if (!key.starts_with(config.architecture + ".")) continue;
      for (const auto& value : hostile_values(file->metadata().value(key), config.num_hidden_layers)) {
        SCOPED_TRACE(name + ": " + key + ", value of kind " + std::to_string(value.index()));
        testing::ChangedWeights hostile(*file);
        hostile.set(key, value);
        ++files;
        try {
          load_and_step(hostile, *cpu);
          EXPECT_FALSE(must_be_refused(key, value));
        } catch (const Error&) {
          ++refused;
        }
      }
    }
  }
  EXPECT_GE(seen.size(), 10u);
  EXPECT_GT(refused * 10, files * 8);
}

}  // namespace
}  // namespace neutrino::models
