// The operations that work row by row: every kernel table against the reference, bit for bit, for odd widths and slices; and
// a row's bits do not depend on its neighbours.

#include <gtest/gtest.h>

#include "compute/arithmetic.h"
#include "compute/backend.h"
#include "compute/scratch_bytes.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

using testing::copy;
using testing::cpu;
using testing::kArithmetics;
using testing::OwnedMatrix;
using testing::random_floats;
using testing::random_matrix;
using testing::reference;
using testing::same_bits;
using testing::values_of;
using testing::view_of;

constexpr Function kFunctions[] = {Function::silu,         Function::gelu_tanh, Function::gelu_erf,
                                   Function::relu_squared, Function::sigmoid,   Function::tanh};

class RowsOnEveryTable : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Isa, RowsOnEveryTable, ::testing::ValuesIn(testing::every_table()),
                         [](const auto& param) { return std::string(param.param); });

using Outputs = std::vector<std::vector<float>>;

// Normal values, and in between some far away from them.
std::vector<float> values(int64_t count, uint64_t seed) {
  std::vector<float> out = random_floats(count, seed, 4.0f);
  constexpr float kOdd[] = {0.0f, -0.0f, 1e4f, -1e4f, 1e-20f, -90.0f, 90.0f, 0.625f, -13.5f, 7.0f};
  for (size_t i = 3; i < out.size(); i += 5) out[i] = kOdd[i / 5 % std::size(kOdd)];
  return out;
}

// All of them on rows that are slices: `columns` of 2 columns + 3. What stands beside the slice must not change.
Outputs row_operations(Backend& backend, std::vector<float> rows, int64_t columns) {
  const int64_t stride = 2 * columns + 3, count = static_cast<int64_t>(rows.size()) / stride;
  const std::vector<float> weight = random_floats(columns, 5), bias = random_floats(columns, 6);
  const std::vector<float> matrix = random_floats(7 * columns, 7), untouched = rows;
  const ScratchScope scope(backend);
  const Tensor all = {.data = rows.data(), .rows = count, .columns = stride, .stride = stride};
  const Tensor x = compute::columns(all, 1, columns), y = compute::columns(all, columns + 2, columns);
  Outputs out;
  const auto changed = [&](auto change) {
    {
      const ScratchScope done(backend);  // at its end the operation is
      change();
    }
    out.push_back(rows);
    rows = untouched;
  };
  for (const Function function : kFunctions) changed([&] { backend.apply(x, function); });
  changed([&] { backend.softcap(x, 30.0f); });
  changed([&] { backend.add(x, y); });
  changed([&] { backend.add_bias(x, bias); });
  changed([&] { backend.multiply(x, y); });
  changed([&] { backend.multiply(x, compute::columns(y, 0, 1)); });
  changed([&] { backend.scale(x, 0.37f); });
  changed([&] { backend.rms_normalize(x, weight, 1e-6f); });
  if (columns % 3 == 0)
    changed([&] { backend.rms_normalize(x, std::span(weight).first(columns / 3), 1e-6f); });
  changed([&] { backend.layer_normalize(x, weight, bias, 1e-6f); });
  changed([&] { backend.layer_normalize(x, weight, {}, 1e-6f); });
  out.push_back(copy(backend.copy(x)));
  out.push_back(copy(backend.matmul_float(x, matrix, 7)));
  out.push_back(values_of(backend, backend.activation(x)));
  out.push_back(values_of(backend, backend.layer_norm(x, weight, bias, 1e-6f)));
  out.push_back(values_of(backend, backend.rms_norm(x, weight, 1e-6f)));
  return out;
}

TEST_P(RowsOnEveryTable, RowOperationsHaveTheBitsOfTheReference) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
    for (const int64_t columns : {1, 15, 16, 33, 96})
      for (const int64_t rows : {1, 6}) {
        const std::vector<float> input = values(rows * (2 * columns + 3), 1);
        const Outputs got = row_operations(*fast, input, columns),
                      want = row_operations(*slow, input, columns);
        ASSERT_EQ(got.size(), want.size());
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_TRUE(same_bits(got[i], want[i])) << "output " << i << ", " << columns << " columns";
      }
  }
}

TEST_P(RowsOnEveryTable, ARowAloneHasTheBitsOfTheBatchInEveryRowOperation) {
  constexpr int64_t kColumns = 33, kStride = 2 * kColumns + 3, kRows = 5;
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    const std::vector<float> input = values(kRows * kStride, 2);
    const Outputs together = row_operations(*backend, input, kColumns);
    for (int64_t r = 0; r < kRows; ++r) {
      const Outputs alone = row_operations(
          *backend, {input.begin() + r * kStride, input.begin() + (r + 1) * kStride}, kColumns);
      for (size_t i = 0; i < alone.size(); ++i) {
        const auto width = static_cast<int64_t>(alone[i].size());
        EXPECT_TRUE(
            same_bits(alone[i], {together[i].begin() + r * width, together[i].begin() + (r + 1) * width}))
            << "output " << i << ", row " << r;
      }
    }
  }
}

TEST(RowOperations, DoWhatTheyAreCalled) {
  const auto backend = reference(Arithmetic::float32);
  std::vector<float> a = {1, 2, 3, 4, 5, 6}, b = {10, 20, 30, 40, 50, 60};
  const Tensor x = view_of(a, 2, 3), y = view_of(b, 2, 3);
  backend->add(x, y);
  EXPECT_EQ(a, (std::vector<float>{11, 22, 33, 44, 55, 66}));
  backend->multiply(x, columns(y, 0, 1));
  EXPECT_EQ(a, (std::vector<float>{110, 220, 330, 1760, 2200, 2640}));
  backend->multiply(x, y);
  EXPECT_EQ(a[5], 2640.0f * 60);
  backend->scale(y, 0.5f);
  const std::vector<float> bias = {1, 2, 3};
  backend->add_bias(y, bias);
  EXPECT_EQ(b, (std::vector<float>{6, 12, 18, 21, 27, 33}));
  EXPECT_EQ(copy(backend->matmul_float(y, bias, 1)), (std::vector<float>{84, 174}));
  EXPECT_EQ(copy(backend->zeros(1, 2)), (std::vector<float>{0, 0}));
}

// ---- products into slices, with every gate, with scaled weights

Outputs products(Backend& backend, DType dtype, float scale) {
  constexpr int64_t kRows = 5, kColumns = 64, kOut = 37;
  OwnedMatrix w = random_matrix(dtype, kOut, kColumns, 1), up = random_matrix(dtype, kOut, kColumns, 2);
  w.view.scale = scale, up.view.scale = 2 * scale;
  std::vector<float> x = random_floats(kRows * kColumns, 3), wide(kRows * 50, 7.0f);
  const auto matrix = backend.load_matrix({&w.view, 1});
  const auto gate_up = backend.load_gate_up(w.view, up.view);
  const auto table = backend.load_embedding(w.view);
  const ScratchScope scope(backend);
  const Activation in = backend.activation(view_of(x, kRows, kColumns));
  backend.matmul_into(columns(view_of(wide, kRows, 50), 6, kOut), in, *matrix);
  const std::vector<int32_t> tokens = {3, 36, 0};
  Outputs out = {wide, copy(backend.embed(*table, tokens)), copy(backend.matmul(in, *table))};
  for (const Function function : kFunctions)
    out.push_back(values_of(backend, backend.gated_matmul(in, *gate_up, function)));
  out.push_back(values_of(backend, backend.gated_matmul(in, *gate_up, Function::swiglu_oai)));
  return out;
}

TEST_P(RowsOnEveryTable, ProductsIntoSlicesAndGatesHaveTheBitsOfTheReference) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
    for (const DType dtype : {DType::q4_1, DType::q8_0, DType::f32})
      for (const float scale : {1.0f, 0.3f}) {
        const Outputs got = products(*fast, dtype, scale), want = products(*slow, dtype, scale);
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_TRUE(same_bits(got[i], want[i])) << "output " << i << ' ' << dtype_info(dtype).name;
      }
  }
}

TEST(WeightScale, MultipliesResultsAndRows) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = reference(arithmetic);
    const Outputs plain = products(*backend, DType::q8_0, 1.0f),
                  scaled = products(*backend, DType::q8_0, 0.25f);
    for (const size_t output : {1, 2})
      for (size_t i = 0; i < plain[output].size(); ++i)
        EXPECT_EQ(scaled[output][i], plain[output][i] * 0.25f);  // a power of two rounds nothing
  }
}

TEST_P(RowsOnEveryTable, OnlyAnEmbeddingKeepsTheOwnerOfItsWeights) {
  const auto backend = cpu(GetParam(), Arithmetic::integer);
  OwnedMatrix w = random_matrix(DType::f16, 20, 32, 1);
  const auto owner = std::make_shared<OwnedMatrix>(w);
  w.view.owner = owner;
  w.view.data = owner->bytes.data();
  const int64_t before = owner.use_count();
  const auto matrix = backend->load_matrix({&w.view, 1});
  const auto experts = backend->load_experts({.up = {w.view}, .down = {w.view}});
  EXPECT_EQ(owner.use_count(), before);
  const auto table = backend->load_embedding(w.view);
  EXPECT_EQ(owner.use_count(), before + 1);
  const std::vector<int32_t> tokens = {0};
  EXPECT_DEATH(backend->embed(*matrix, tokens), "load_embedding");
}

// ---- memory

// One step of what encoders, mixtures of experts and hybrids use, in the scratch that scratch_bytes.h counts for it.
class EveryOperation {
 public:
  static constexpr int64_t kRows = 40, kWidth = 64, kExperts = 6, kUsed = 2;

  explicit EveryOperation(Backend& backend) : backend_(backend) {
    const WeightView& view = square_.view;
    square_matrix_ = backend.load_matrix({&view, 1});
    const std::vector<WeightView> views(kExperts, view);
    experts_ = backend.load_experts({.gate = views, .up = views, .down = views});
    KvCacheShape shape = uniform_kv_cache(1, 1, 16, 4);
    shape.states = {3 * kWidth + mamba2_.state_floats() + delta_.state_floats()}, shape.state_slots = 1;
    cache_ = backend.make_kv_cache(shape);
  }

  static int64_t scratch_bytes() {
    return 14 * scratch::result(kRows, kWidth) + scratch::route(kRows, kExperts, kUsed) +
           scratch::experts_add(kRows, kExperts, kUsed, kWidth, kWidth) +
           scratch::gated_delta_net(kRows, 1, 8, 4, 12);
  }

  void step(int64_t position) {
    backend_.begin_step({});
    const SequenceRows sequence = {
        .rows = kRows, .first_position = position, .block_table = table_, .state_slot = 0};
    const Batch batch = {.sequences = {&sequence, 1}};
    Tensor x = backend_.copy(view_of(input_, kRows, kWidth));
    backend_.causal_conv1d(x, conv_, {}, 4, batch, *cache_, 0, 0);
    Tensor qkv = backend_.matmul(backend_.layer_norm(x, ones_, ones_, 1e-5f), *square_matrix_);
    backend_.rope_and_store(qkv, {}, attention_, batch, *cache_, 0);
    backend_.add(columns(x, 0, 32), backend_.attention_values(qkv, attention_, batch, *cache_, 0));
    const Routing routing = backend_.route(backend_.matmul_float(x, router_, kExperts), router_shape_);
    backend_.experts_add(x, backend_.activation(x), *experts_, routing);
    const Tensor some = backend_.matmul(backend_.activation(x), *square_matrix_);
    backend_.apply(some, Function::gelu_erf);
    backend_.mamba2_scan(columns(some, 0, 48), columns(some, 48, 2), mamba2_, batch, *cache_, 0, 192);
    backend_.gated_delta_net(some, columns(some, 0, 4), columns(some, 4, 4), delta_, batch, *cache_, 0,
                             192 + mamba2_.state_floats());
  }

 private:
  Backend& backend_;
  OwnedMatrix square_ = random_matrix(DType::q8_0, kWidth, kWidth, 1);
  std::vector<float> input_ = random_floats(kRows * kWidth, 2), ones_ = std::vector<float>(kWidth, 1.0f),
                     minus_ones_ = std::vector<float>(kWidth, -1.0f), conv_ = random_floats(4 * kWidth, 3),
                     router_ = random_floats(kExperts * kWidth, 4);
  std::vector<int32_t> table_ = {2, 0, 1, 3};
  AttentionShape attention_ = {.num_attention_heads = 2,
                               .num_key_value_heads = 1,
                               .head_dim = 16,
                               .scale = 0.25f,
                               .window = 24,
                               .softcap = 8};
  RouterShape router_shape_ = {.experts = kExperts, .experts_used = kUsed, .normalize = true};
  Mamba2Shape mamba2_ = {.heads = 2,
                         .head_dim = 8,
                         .groups = 1,
                         .state_size = 16,
                         .a = minus_ones_,
                         .d = ones_,
                         .dt_bias = ones_};
  DeltaNetShape delta_ = {
      .key_heads = 1, .value_heads = 4, .key_dim = 8, .value_dim = 12, .a = minus_ones_, .dt_bias = ones_};
  std::unique_ptr<Matrix> square_matrix_;
  std::unique_ptr<Experts> experts_;
  std::unique_ptr<KvCache> cache_;
};

TEST_P(RowsOnEveryTable, AStepOfEveryOperationDoesNotAllocateAndKeepsToItsScratch) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    EveryOperation operations(*backend);
    backend->reserve(EveryOperation::scratch_bytes());
    operations.step(0);
    const int64_t before = testing::allocations();
    operations.step(40);
    operations.step(80);
    EXPECT_EQ(testing::allocations(), before);
  }
}

}  // namespace
}  // namespace neutrino::compute
