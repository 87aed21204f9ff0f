// Every architecture against the authors' code: tests/golden/models holds what `transformers` computes in float32 for tiny
// random models (made by tools/make_model_golden.py).

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/error.h"
#include "models/testing/golden_case.h"

namespace neutrino::models {
namespace {

using namespace testing;
using compute::Arithmetic;

const std::filesystem::path kFolder = NEUTRINO_SOURCE_DIR "/tests/golden/models";
constexpr double kTolerance = 1e-3;  // of a logit, whose standard deviation is at least 1

struct Loaded {
  Loaded(const std::filesystem::path& path, Arithmetic arithmetic, int64_t context)
      : file(weights::open_weight_file(path)),
        backend(compute::make_cpu_backend({.arithmetic = arithmetic, .threads = 1})),
        model(load_model(*file, *backend, context)) {}
  std::vector<float> run(const std::vector<int32_t>& tokens, const RunOptions& options = {}) const {
    return run_tokens(*model, *backend, tokens, options);
  }

  std::unique_ptr<weights::WeightFile> file;
  std::unique_ptr<compute::Backend> backend;
  std::unique_ptr<Model> model;
};

class GoldenModel : public ::testing::TestWithParam<std::string> {
 protected:
  GoldenModel() : golden_(read_golden_case(kFolder, GetParam())) {
    write_checkpoint(golden_, folder_.path());
  }

  // What the case holds: outputs of all tokens, or the scores of the text.
  std::vector<float> outputs(const Loaded& loaded) const {
    if (golden_.file.contains("scores")) return run_pooled(*loaded.model, *loaded.backend, golden_.tokens);
    return loaded.run(golden_.tokens);
  }

  // What a case lists as having no influence: a bias of keys shifts all scores of a query alike.
  bool is_inert(const std::string& tensor) const {
    const json::value* inert = golden_.file.if_contains("inert");
    return inert && std::ranges::any_of(inert->as_array(), [&](const json::value& suffix) {
             return std::string_view(tensor).ends_with(suffix.as_string());
           });
  }

  GoldenCase golden_;
  TemporaryFolder folder_;
};

TEST_P(GoldenModel, ExactEqualsTransformers) {
  const Loaded loaded(folder_.path(), Arithmetic::float32, golden_.context);
  EXPECT_LE(largest_difference(golden_, outputs(loaded)), kTolerance);
}

// The canonical form survives being converted.
TEST_P(GoldenModel, ExactEqualsTransformersFromGguf) {
  const auto path = folder_.path() / "model.gguf";
  convert_to_f32_gguf(folder_.path(), path);
  const Loaded loaded(path, Arithmetic::float32, golden_.context);
  for (const weights::TensorEntry& tensor : loaded.file->tensors())
    EXPECT_EQ(tensor.dtype, compute::DType::f32) << tensor.name;
  EXPECT_LE(largest_difference(golden_, outputs(loaded)), kTolerance);
}

// Where two experts are nearly equal, rounding may choose the other one: a mixture is judged by its median row.
TEST_P(GoldenModel, NormalArithmeticIsNear) {
  const Loaded loaded(folder_.path(), Arithmetic::integer, golden_.context);
  const auto actual = outputs(loaded);
  std::vector<double> row_errors;
  double difference = 0, size = 0;
  for (size_t r = 0; r < golden_.rows.size(); ++r) {
    double row_difference = 0, row_size = 0;
    for (int64_t c = 0; c < golden_.columns; ++c) {
      const double expected = golden_.expected[r * golden_.columns + c];
      const double delta = actual[golden_.rows[r] * golden_.columns + c] - expected;
      row_difference += delta * delta, row_size += expected * expected;
    }
    row_errors.push_back(std::sqrt(row_difference / row_size));
    difference += row_difference, size += row_size;
  }
  std::ranges::sort(row_errors);
  const bool mixture = std::ranges::any_of(golden_.tensors, [](const GoldenTensor& tensor) {
    return tensor.name.find("experts.") != std::string::npos;
  });
  EXPECT_LE(mixture ? row_errors[row_errors.size() / 2] : std::sqrt(difference / size), 0.05);
}

TEST_P(GoldenModel, ChunksDoNotChangeBits) {
  for (const Arithmetic arithmetic : {Arithmetic::integer, Arithmetic::float32}) {
    const Loaded loaded(folder_.path(), arithmetic, golden_.context);
    if (loaded.model->config().bidirectional) return;  // it takes a sequence as a whole
    const auto whole = loaded.run(golden_.tokens);
    const auto count = static_cast<int64_t>(golden_.tokens.size());
    EXPECT_EQ(loaded.run(golden_.tokens, {.chunks = std::vector<int64_t>(count, 1)}), whole) << "decoded";
    EXPECT_EQ(loaded.run(golden_.tokens, {.chunks = {7, 1, count - 8}}), whole) << "chunked";
    EXPECT_EQ(loaded.run(golden_.tokens, {.chunks = {32, count - 32}, .resume_at = 1}), whole) << "resumed";
  }
}

// Behind the last layer's keys and values only the rows go on whose outputs are wanted, if there are any.
TEST_P(GoldenModel, RowsThatNobodyReadsDoNotChangeTheOthers) {
  for (const Arithmetic arithmetic : {Arithmetic::integer, Arithmetic::float32}) {
    const Loaded loaded(folder_.path(), arithmetic, golden_.context);
    const auto whole = loaded.run(golden_.tokens);
    const auto count = static_cast<int64_t>(golden_.tokens.size());
    const auto columns = static_cast<int64_t>(whole.size()) / count;
    const std::vector<int64_t> wanted = {9, 10, 13, count - 1};
    std::vector<float> expected;
    for (const int64_t row : wanted)
      expected.insert(expected.end(), whole.begin() + row * columns, whole.begin() + (row + 1) * columns);
    EXPECT_EQ(loaded.run(golden_.tokens, {.wanted = wanted}), expected);
    if (loaded.model->config().bidirectional) continue;
    EXPECT_EQ(loaded.run(golden_.tokens, {.chunks = {9, count - 11, 1, 1}, .wanted = wanted}), expected);
  }
}

// The negative control of the comparison, and proof that no tensor is forgotten.
TEST_P(GoldenModel, EveryCorruptTensorShows) {
  for (const GoldenTensor& tensor : golden_.tensors) {
    if (is_inert(tensor.name)) continue;
    SCOPED_TRACE(tensor.name);
    write_checkpoint(golden_, folder_.path(), tensor.name);
    try {
      const Loaded loaded(folder_.path(), Arithmetic::float32, golden_.context);
      EXPECT_GT(largest_difference(golden_, outputs(loaded)), kTolerance);
    } catch (const Error&) {  // refused: it shows, too
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModel, ::testing::ValuesIn(golden_case_names(kFolder)),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

}  // namespace
}  // namespace neutrino::models
