// Adapters in products: every table has the reference's bits; a row's result depends on its own adapter alone.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

using namespace testing;

// The matrices of a layer: q, k and v stacked, gate and up side by side, and one whose product is added to a sum.
class Layer {
 public:
  explicit Layer(Backend& backend, int64_t columns) : backend_(backend), columns_(columns) {
    add("q", 20), add("k", 7), add("v", 33), add("gate", 50), add("up", 50), add("down", 17);
    const WeightView stacked[] = {view("q"), view("k"), view("v")};
    qkv_ = backend.load_matrix(stacked);
    gate_up_ = backend.load_gate_up(view("gate"), view("up"));
    down_ = backend.load_matrix({&view("down"), 1});
    backend.loaded();
  }
  int64_t columns() const { return columns_; }
  const WeightView& view(const std::string& name) const { return weights_.at(name).view; }

  // The results of the three products for x (rows, columns), whose rows belong to `sequences`.
  std::vector<std::vector<float>> run(std::vector<float> x, std::span<const SequenceRows> sequences) const {
    const int64_t rows = std::ssize(x) / columns_;
    const std::vector<float> weight = random_floats(columns_, 5);
    std::vector<float> sum(static_cast<size_t>(rows * 17), 0.25f);
    backend_.begin_step({.sequences = sequences});
    const ScratchScope scope(backend_);
    const Activation normed = backend_.rms_norm(view_of(x, rows, columns_), weight, 1e-5f);
    Tensor sums = view_of(sum, rows, 17);
    backend_.matmul_add(sums, normed, *down_);
    return {copy(backend_.matmul(normed, *qkv_)), sum,
            values_of(backend_, backend_.gated_matmul(normed, *gate_up_))};
  }

  // One product in the step that has begun.
  void multiply(std::vector<float>& x) const {
    backend_.matmul(backend_.activation(view_of(x, std::ssize(x) / columns_, columns_)), *qkv_);
  }

 private:
  void add(const std::string& name, int64_t rows) {
    OwnedMatrix& matrix = weights_[name] = random_matrix(DType::f16, rows, columns_, weights_.size() + 1);
    matrix.view.data = matrix.bytes.data();
    matrix.view.tensor = name;
  }

  Backend& backend_;
  int64_t columns_;
  std::map<std::string, OwnedMatrix> weights_;
  std::unique_ptr<Matrix> qkv_, gate_up_, down_;
};

struct Values {
  std::vector<float> a, b;
};

std::unique_ptr<Adapter> make_adapter(Backend& backend, const Layer& layer, int64_t rank,
                                      const std::vector<std::string>& tensors, uint64_t seed) {
  std::vector<Values> values;
  std::vector<LowRankUpdate> updates;
  for (const std::string& name : tensors) {
    const int64_t rows = layer.view(name).rows;
    values.push_back(
        {random_floats(rank * layer.columns(), ++seed, 0.3f), random_floats(rows * rank, ++seed, 0.3f)});
  }
  for (size_t i = 0; i < tensors.size(); ++i)
    updates.push_back(
        {tensors[i], layer.view(tensors[i]).rows, layer.columns(), rank, values[i].a, values[i].b});
  return backend.load_adapter(updates);
}

const std::vector<std::string> kAll = {"q", "k", "v", "gate", "up", "down"};

// Sequences of 1, 3, 1, 20 and 2 rows: two adapters, none, the first again, one that changes one tensor.
struct Served {
  Served(Backend& backend, int64_t columns)
      : layer(backend, columns),
        large(make_adapter(backend, layer, 17, kAll, 100)),
        small(make_adapter(backend, layer, 4, {"q", "up"}, 200)),
        single(make_adapter(backend, layer, 1, {"down"}, 300)),
        sequences{{.first_row = 0, .rows = 1, .adapter = large.get()},
                  {.first_row = 1, .rows = 3, .adapter = small.get()},
                  {.first_row = 4, .rows = 1},
                  {.first_row = 5, .rows = 20, .adapter = large.get()},
                  {.first_row = 25, .rows = 2, .adapter = single.get()}} {}
  static constexpr int64_t kRows = 27;
  std::vector<float> x() const { return random_floats(kRows * layer.columns(), 3); }

  Layer layer;
  std::unique_ptr<Adapter> large, small, single;
  std::vector<SequenceRows> sequences;
};

class EveryAdapterTable : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Adapters, EveryAdapterTable, ::testing::ValuesIn(testing::every_table()),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(EveryAdapterTable, AdaptersHaveTheBitsOfTheReference) {
  for (const Arithmetic arithmetic : kArithmetics)
    for (const int64_t columns : {31, 64, 130, 576}) {
      const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
      const Served on_fast(*fast, columns), on_slow(*slow, columns);
      const auto got = on_fast.layer.run(on_fast.x(), on_fast.sequences),
                 want = on_slow.layer.run(on_slow.x(), on_slow.sequences);
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_TRUE(same_bits(got[i], want[i])) << "output " << i << ", columns " << columns << ", float32 "
                                                << (arithmetic == Arithmetic::float32);
    }
}

// One sequence alone, on another number of threads, has the bits that it has among the others.
TEST_P(EveryAdapterTable, ARowDependsOnItsOwnAdapterAlone) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto together = cpu(GetParam(), arithmetic, 3), single = cpu(GetParam(), arithmetic, 1);
    const Served many(*together, 130), alone(*single, 130);
    const std::vector<float> x = many.x();
    const auto all = many.layer.run(x, many.sequences);
    const auto without = many.layer.run(x, {});
    for (const SequenceRows& sequence : alone.sequences) {
      SequenceRows only = sequence;
      only.first_row = 0;
      const auto first = x.begin() + sequence.first_row * 130;
      const auto results = alone.layer.run({first, first + sequence.rows * 130}, {&only, 1});
      for (size_t i = 0; i < results.size(); ++i) {
        const int64_t width = std::ssize(results[i]) / sequence.rows;
        const auto begin = all[i].begin() + sequence.first_row * width;
        EXPECT_TRUE(same_bits(results[i], {begin, begin + sequence.rows * width})) << sequence.first_row;
        const auto plain = without[i].begin() + sequence.first_row * width;
        const bool changed = !same_bits(results[i], {plain, plain + sequence.rows * width});
        const bool expected = sequence.adapter == alone.large.get() ||
                              (sequence.adapter == alone.small.get() && i != 1) ||
                              (sequence.adapter == alone.single.get() && i == 1);
        EXPECT_EQ(changed, expected) << "sequence at row " << sequence.first_row << ", output " << i;
      }
    }
  }
}

// y = W x + B (A x), in double precision.
TEST(Adapter, IsWhatTheFormulaSays) {
  const auto backend = reference(Arithmetic::float32);
  const Layer layer(*backend, 64);
  const std::vector<float> a = random_floats(4 * 64, 7, 0.3f), b = random_floats(33 * 4, 8, 0.3f);
  const LowRankUpdate update{"v", 33, 64, 4, a, b};
  const auto adapter = backend->load_adapter({&update, 1});
  EXPECT_EQ(adapter->rank(), 4);
  EXPECT_GE(adapter->bytes(), (4 * 64 + 33 * 4) * 4);
  const SequenceRows sequence{.rows = 1, .adapter = adapter.get()};
  std::vector<float> x = random_floats(64, 9);
  const auto with = layer.run(x, {&sequence, 1})[0], without = layer.run(x, {})[0];
  backend->begin_step({});
  const auto normed = values_of(*backend, backend->rms_norm(view_of(x, 1, 64), random_floats(64, 5), 1e-5f));
  for (int64_t n = 0; n < 60; ++n) {
    double sum = without[n];
    for (int64_t k = 0; k < 4 && n >= 27; ++k) {
      double h = 0;
      for (int64_t c = 0; c < 64; ++c) h += double{a[k * 64 + c]} * normed[c];
      sum += b[(n - 27) * 4 + k] * h;
    }
    EXPECT_NEAR(with[n], sum, 1e-5) << n;
  }
}

// In integer arithmetic A, B, x and h are rounded: what an adapter adds is within a hundredth of its size in float32, or
// three where one weight is a hundred times the others, for that spoils its own run alone.
TEST(Adapter, IntegersComeCloseToTheFormula) {
  for (const bool outlier : {false, true}) {
    std::vector<float> a = random_floats(16 * 1024, 7, 0.3f), b = random_floats(48 * 16, 8, 0.3f);
    if (outlier) a[3 * 1024 + 500] = 30;
    const OwnedMatrix w = random_matrix(DType::f16, 48, 1024, 1);
    WeightView view = w.view;
    view.tensor = "w";
    std::vector<std::vector<float>> added;
    for (const Arithmetic arithmetic : {Arithmetic::float32, Arithmetic::integer}) {
      const auto backend = reference(arithmetic);
      const auto matrix = backend->load_matrix({&view, 1});
      const LowRankUpdate update{"w", 48, 1024, 16, a, b};
      const auto adapter = backend->load_adapter({&update, 1});
      const SequenceRows sequence{.rows = 1, .adapter = adapter.get()};
      std::vector<float> x = random_floats(1024, 9), sums[2];
      for (const bool with : {false, true}) {
        backend->begin_step({.sequences = {&sequence, with ? 1u : 0u}});
        sums[with] = copy(backend->matmul(backend->activation(view_of(x, 1, 1024)), *matrix));
      }
      for (size_t n = 0; n < 48; ++n) sums[1][n] -= sums[0][n];
      added.push_back(sums[1]);
    }
    double error = 0, size = 0;
    for (size_t n = 0; n < 48; ++n) {
      error += std::pow(double{added[1][n]} - added[0][n], 2);
      size += std::pow(added[0][n], 2);
    }
    EXPECT_LT(std::sqrt(error / size), outlier ? 0.03 : 0.01);
    EXPECT_GT(std::sqrt(error / size), 0.0005);  // it is rounded
  }
}

// A matrix may be made of slices of a tensor; all of them change.
TEST(Adapter, SlicesOfATensorAreItsRows) {
  for (const std::string_view table : every_table()) {
    const auto backend = cpu(table, Arithmetic::integer);
    const OwnedMatrix w = random_matrix(DType::f16, 48, 64, 1);
    WeightView whole = w.view, halves[] = {w.view, w.view};
    whole.tensor = "whole";
    for (int i = 0; i < 2; ++i) {
      halves[i].tensor = "halves";
      halves[i].rows = 24, halves[i].first_row = i == 0 ? 24 : 0;  // the second half first
      halves[i].data += halves[i].first_row * 64 * 2;
    }
    const auto one = backend->load_matrix({&whole, 1}), two = backend->load_matrix(halves);
    const std::vector<float> a = random_floats(3 * 64, 7), b = random_floats(48 * 3, 8);
    const LowRankUpdate updates[] = {{"whole", 48, 64, 3, a, b}, {"halves", 48, 64, 3, a, b}};
    const auto adapter = backend->load_adapter(updates);
    const SequenceRows sequence{.rows = 2, .adapter = adapter.get()};
    std::vector<float> x = random_floats(2 * 64, 9);
    backend->begin_step({.sequences = {&sequence, 1}});
    const Activation rows = backend->activation(view_of(x, 2, 64));
    const auto y = copy(backend->matmul(rows, *one)), turned = copy(backend->matmul(rows, *two));
    for (int64_t r = 0; r < 2; ++r)
      for (int64_t n = 0; n < 48; ++n) EXPECT_EQ(turned[r * 48 + (n + 24) % 48], y[r * 48 + n]) << table;
  }
}

TEST(Adapter, WhatNoProductReadsIsRefusedByName) {
  const auto backend = cpu("generic", Arithmetic::integer);
  OwnedMatrix w = random_matrix(DType::f16, 48, 64, 1);
  w.view.tensor = "table";
  const auto table = backend->load_embedding(w.view);
  WeightView half = w.view;
  half.tensor = "half", half.rows = 24;
  const auto part = backend->load_matrix({&half, 1});
  const std::vector<float> a(2 * 64), b(48 * 2);
  const auto refused = [&](const LowRankUpdate& update, const char* text) {
    try {
      backend->load_adapter({&update, 1});
      ADD_FAILURE() << update.tensor;
    } catch (const Error& error) {
      EXPECT_NE(error.message().find(text), std::string::npos) << error.message();
      EXPECT_NE(error.message().find(update.tensor), std::string::npos) << error.message();
    }
  };
  refused({"table", 48, 64, 2, a, b}, "while serving");
  refused({"half", 48, 64, 2, a, b}, "while serving");  // the other half is read by nobody
  refused({"missing", 48, 64, 2, a, b}, "while serving");
  refused({"half", 24, 32, 2, std::span(a).first(64), std::span(b).first(48)}, "64 columns");
  refused({"half", 24, 64, 0, {}, {}}, "rank");
}

// Nothing is allocated by steps with adapters once the first has been made.
TEST(Adapter, StepsDoNotAllocate) {
  const auto backend = cpu(available_isas()[0], Arithmetic::integer);
  const Served served(*backend, 64);
  std::vector<float> x = served.x();
  const Batch batch{.sequences = served.sequences};
  EXPECT_GT(backend->adapter_scratch_bytes(27, 17), 3 * 27 * 17 * 6);
  backend->begin_step(batch);
  const int64_t before = testing::allocations();
  backend->begin_step(batch);
  served.layer.multiply(x);
  EXPECT_EQ(testing::allocations(), before);
}

}  // namespace
}  // namespace neutrino::compute
