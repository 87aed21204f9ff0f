// Every operation on every kernel table of this CPU gives the bits of the reference backend, for odd shapes, all weight types
// and any number of rows; and a row's bits do not depend on its neighbours, the threads or the chunking.

#include "compute/backend.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/integer_weights.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

using testing::copy;
using testing::cpu;
using testing::identity_matrix;
using testing::kArithmetics;
using testing::OwnedMatrix;
using testing::random_floats;
using testing::random_matrix;
using testing::reference;
using testing::same_bits;
using testing::values_of;
using testing::view_of;

// The types that kernels know by themselves; all others become 16-bit integers or float32 on their way in.
constexpr DType kKernelTypes[] = {DType::q4_0, DType::q4_1, DType::q4_k,   DType::q5_0,
                                  DType::q5_k, DType::q6_k, DType::iq4_nl, DType::mxfp4,
                                  DType::q8_0, DType::f32,  DType::f16,    DType::bf16};
constexpr int64_t kRowCounts[] = {1, 2, 3, 5, 8, 17, 33};
// ---- products

struct Shape {
  int64_t rows, columns;
};
constexpr Shape kQuantisedShapes[] = {{1, 32}, {16, 64}, {17, 96}, {50, 32}, {300, 160}};
constexpr Shape kSuperShapes[] = {{1, 256}, {17, 512}, {50, 256}, {97, 768}};
constexpr Shape kPlainShapes[] = {{1, 1}, {16, 31}, {33, 33}, {50, 64}, {7, 130}};

std::span<const Shape> shapes_of(DType dtype) {
  const int64_t block = dtype_info(dtype).block;
  return block > 32  ? std::span<const Shape>(kSuperShapes)
         : block > 1 ? std::span<const Shape>(kQuantisedShapes)
                     : kPlainShapes;
}

// norm -> product, norm -> product + sum, norm -> gated product.
std::vector<std::vector<float>> products(Backend& backend, DType dtype, Shape shape, int64_t rows) {
  const OwnedMatrix w = random_matrix(dtype, shape.rows, shape.columns, 1);
  const OwnedMatrix up = random_matrix(dtype, shape.rows, shape.columns, 2);
  std::vector<float> x = random_floats(rows * shape.columns, 3), sum = random_floats(rows * shape.rows, 4);
  const std::vector<float> weight = random_floats(shape.columns, 5);
  const auto matrix = backend.load_matrix({&w.view, 1});
  const auto gate_up = backend.load_gate_up(w.view, up.view);
  const ScratchScope scope(backend);
  const Activation normed = backend.rms_norm(view_of(x, rows, shape.columns), weight, 1e-5f);
  Tensor sums = view_of(sum, rows, shape.rows);
  backend.matmul_add(sums, normed, *matrix);
  return {copy(backend.matmul(normed, *matrix)), sum,
          values_of(backend, backend.gated_matmul(normed, *gate_up))};
}

class EveryTable : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Isa, EveryTable, ::testing::ValuesIn(testing::every_table()),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(EveryTable, ProductsHaveTheBitsOfTheReference) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
    for (const DType dtype : kKernelTypes)
      for (const Shape shape : shapes_of(dtype))
        for (const int64_t rows : kRowCounts) {
          const auto got = products(*fast, dtype, shape, rows), want = products(*slow, dtype, shape, rows);
          for (size_t i = 0; i < want.size(); ++i)
            ASSERT_TRUE(same_bits(got[i], want[i]))
                << "output " << i << ", " << dtype_info(dtype).name << ' ' << shape.rows << 'x'
                << shape.columns << ", rows " << rows << ", float32 " << (arithmetic == Arithmetic::float32);
        }
  }
}

TEST_P(EveryTable, EveryWeightTypeHasTheBitsOfTheReference) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
    for (const DType dtype : testing::weight_dtypes())
      for (const int64_t rows : {1, 5})
        ASSERT_TRUE(products(*fast, dtype, {17, 256}, rows) == products(*slow, dtype, {17, 256}, rows))
            << dtype_info(dtype).name << ", rows " << rows;
  }
}

TEST_P(EveryTable, MoreRowsThanAChunkAndARealisticWidth) {
  const auto fast = cpu(GetParam(), Arithmetic::integer), slow = reference(Arithmetic::integer);
  for (const DType dtype : {DType::q4_1, DType::iq4_nl, DType::q8_0, DType::f16})
    EXPECT_TRUE(products(*fast, dtype, {40, 576}, 230) == products(*slow, dtype, {40, 576}, 230))
        << dtype_info(dtype).name;
}

TEST_P(EveryTable, StackedPartsOfDifferentTypes) {
  const auto fast = cpu(GetParam(), Arithmetic::integer), slow = reference(Arithmetic::integer);
  const OwnedMatrix q = random_matrix(DType::q4_1, 20, 64, 1), k = random_matrix(DType::q8_0, 7, 64, 2),
                    v = random_matrix(DType::f16, 33, 64, 3);
  const WeightView parts[] = {q.view, k.view, v.view};
  std::vector<float> x = random_floats(3 * 64, 4);
  const std::vector<float> weight(64, 1.0f);
  const auto run = [&](Backend& backend) {
    const auto matrix = backend.load_matrix(parts);
    return copy(backend.matmul(backend.rms_norm(view_of(x, 3, 64), weight, 1e-5f), *matrix));
  };
  EXPECT_TRUE(same_bits(run(*fast), run(*slow)));
}

// Random scales, and all else the same bits: in two of three blocks all ones.
OwnedMatrix extreme_matrix(DType dtype, int64_t rows, int64_t columns) {
  OwnedMatrix w = random_matrix(dtype, rows, columns, 1);
  const DTypeInfo& info = dtype_info(dtype);
  const auto block = static_cast<size_t>(info.block_bytes);
  for (size_t at = 0; info.block > 1 && at < w.bytes.size(); at += block) {
    const std::vector<std::byte> scales(w.bytes.begin() + at, w.bytes.begin() + at + block);
    std::fill_n(w.bytes.begin() + at, block, std::byte{at % 3 == 0 ? uint8_t{0x80} : uint8_t{0xFF}});
    testing::copy_scales(dtype, scales.data(), w.bytes.data() + at);
  }
  return w;
}

// Rows with the largest values that there can be: sums close to their limits, magnitudes from 1e-30 to 1e30.
TEST_P(EveryTable, ExtremeValues) {
  const auto fast = cpu(GetParam(), Arithmetic::integer), slow = reference(Arithmetic::integer);
  constexpr int64_t kColumns = 2048;
  for (const DType dtype : kKernelTypes) {
    const OwnedMatrix w = extreme_matrix(dtype, 18, kColumns);
    std::vector<float> x(4 * kColumns);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = i < kColumns ? 1.0f : i < 2 * kColumns ? -3e29f : i % 7 ? 1e-29f : -2e-29f;
    for (size_t i = 3 * kColumns; i < x.size(); ++i) x[i] = 0;
    const auto run = [&](Backend& backend) {
      const auto matrix = backend.load_matrix({&w.view, 1});
      const auto gate_up = backend.load_gate_up(w.view, w.view);
      const std::vector<float> ones(kColumns, 1.0f);
      const Activation normed = backend.rms_norm(view_of(x, 4, kColumns), ones, 1e-38f);
      std::vector<float> out = copy(backend.matmul(normed, *matrix));
      const std::vector<float> gated = values_of(backend, backend.gated_matmul(normed, *gate_up));
      out.insert(out.end(), gated.begin(), gated.end());
      for (float& value : out)
        if (std::isnan(value)) value = 0;  // which NaN it is does not matter
      return out;
    };
    EXPECT_TRUE(same_bits(run(*fast), run(*slow))) << dtype_info(dtype).name;
  }
}

TEST(Reference, AProductIsTheExactIntegerSum) {
  const auto backend = reference(Arithmetic::integer);
  constexpr int64_t kColumns = 768;
  for (const DType dtype : testing::weight_dtypes()) {
    const OwnedMatrix w = random_matrix(dtype, 1, kColumns, 1);
    std::vector<float> x = random_floats(kColumns, 2), normed(kColumns);
    const std::vector<float> ones(kColumns, 1.0f);
    const auto matrix = backend->load_matrix({&w.view, 1});
    const float y = backend->matmul(backend->rms_norm(view_of(x, 1, kColumns), ones, 0), *matrix).row(0)[0];

    IntegerRow row;
    integer_row(dtype, w.bytes.data(), kColumns, row);
    int16_t integers[kColumns];
    rms_norm_row(x.data(), ones.data(), 0, kColumns, normed.data());
    const float scale = quantize_row(normed.data(), kColumns, integers);
    int64_t sum = 0;
    double real = 0;
    std::vector<float> weights(kColumns);
    dequantize_row(dtype, w.bytes.data(), kColumns, weights.data());
    for (int64_t c = 0; c < kColumns; ++c) {
      sum += int64_t{integer_weight(weight_kind(dtype), row, c)} * integers[c];
      real += static_cast<double>(weights[c]) * normed[c];
    }
    EXPECT_EQ(y, static_cast<float>(static_cast<double>(sum)) * (row.scale * scale));
    EXPECT_NEAR(y, real, 2e-3) << dtype_info(dtype).name;
  }
}

// ---- rows alone and together

TEST_P(EveryTable, ARowAloneHasTheBitsOfTheBatch) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic), single = cpu(GetParam(), arithmetic, 1);
    const OwnedMatrix w = random_matrix(DType::q4_1, 100, 96, 1);
    std::vector<float> x = random_floats(33 * 96, 2);
    const std::vector<float> weight = random_floats(96, 3);
    const auto run = [&](Backend& on, int64_t first, int64_t rows) {
      const auto matrix = on.load_matrix({&w.view, 1});
      const ScratchScope scope(on);
      const Tensor part = {.data = x.data() + first * 96, .rows = rows, .columns = 96, .stride = 96};
      return copy(on.matmul(on.rms_norm(part, weight, 1e-5f), *matrix));
    };
    const std::vector<float> all = run(*backend, 0, 33);
    EXPECT_TRUE(same_bits(all, run(*single, 0, 33)));
    for (int64_t r = 0; r < 33; ++r)
      EXPECT_TRUE(same_bits(run(*backend, r, 1), {all.begin() + r * 100, all.begin() + (r + 1) * 100})) << r;
  }
}

// The negative control: the same comparison with a product whose activations share one scale a batch.
TEST(Reference, AScalePerBatchWouldBeSeen) {
  constexpr int64_t kRows = 4, kColumns = 96;
  const std::vector<float> x = random_floats(kRows * kColumns, 1), w = random_floats(kColumns, 2);
  const auto run = [&](int64_t first, int64_t rows, bool scale_per_batch) {
    std::vector<int16_t> integers(static_cast<size_t>(rows * kColumns));
    std::vector<float> out;
    float scale = quantize_row(x.data() + first * kColumns, rows * kColumns, integers.data());
    for (int64_t r = 0; r < rows; ++r) {
      int16_t* row = integers.data() + r * kColumns;
      if (!scale_per_batch) scale = quantize_row(x.data() + (first + r) * kColumns, kColumns, row);
      double sum = 0;
      for (int64_t c = 0; c < kColumns; ++c) sum += row[c] * w[c];
      out.push_back(static_cast<float>(sum) * scale);
    }
    return out;
  };
  for (const bool scale_per_batch : {false, true}) {
    const std::vector<float> together = run(0, kRows, scale_per_batch);
    std::vector<float> alone;
    for (int64_t r = 0; r < kRows; ++r) alone.push_back(run(r, 1, scale_per_batch)[0]);
    EXPECT_EQ(same_bits(together, alone), !scale_per_batch);
  }
}

TEST_P(EveryTable, ABrokenRowStaysAlone) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    const OwnedMatrix w = random_matrix(DType::q4_1, 48, 64, 1), up = random_matrix(DType::q8_0, 48, 64, 2);
    const auto gate_up = backend->load_gate_up(w.view, up.view);
    const std::vector<float> weight(64, 1.0f);
    std::vector<float> x = random_floats(9 * 64, 3);
    const auto run = [&] {
      return values_of(*backend,
                       backend->gated_matmul(backend->rms_norm(view_of(x, 9, 64), weight, 1e-5f), *gate_up));
    };
    const std::vector<float> before = run();
    x[4 * 64 + 5] = std::nanf(""), x[7 * 64] = INFINITY;
    const std::vector<float> after = run();
    for (int64_t r = 0; r < 9; ++r)
      for (int64_t c = 0; c < 48; ++c)
        if (r == 4 || r == 7)
          EXPECT_TRUE(std::isnan(after[r * 48 + c]));
        else
          EXPECT_EQ(after[r * 48 + c], before[r * 48 + c]);
  }
}

// ---- attention

struct Attention {
  int64_t heads, kv_heads, head_dim, rotary_dim;
  RopePairs pairs;
};
constexpr Attention kAttentions[] = {
    {2, 1, 16, 16, RopePairs::adjacent},   {9, 3, 64, 64, RopePairs::adjacent},
    {4, 4, 32, 16, RopePairs::halves},     {8, 1, 80, 80, RopePairs::halves},
    {2, 2, 128, 128, RopePairs::adjacent}, {3, 1, 6, 4, RopePairs::adjacent},
};

// One sequence of random q, k, v rows, its outputs gathered over steps of the given sizes.
class AttentionRun {
 public:
  AttentionRun(Backend& backend, const Attention& attention, int64_t positions, uint64_t seed)
      : backend_(backend),
        attention_(attention),
        columns_((attention.heads + 2 * attention.kv_heads) * attention.head_dim),
        rows_(random_floats(positions * columns_, seed, 2.0f)),
        rope_(testing::rope_values(positions, attention.rotary_dim, attention.pairs)),
        identity_(identity_matrix(backend, attention.heads * attention.head_dim)) {}

  std::vector<float>& rows() { return rows_; }

  // Rows [first, first + count) in one step. `blocks` is the block table.
  void step(KvCache& cache, std::span<const int32_t> blocks, int64_t first, int64_t count,
            std::vector<float>& out) {
    const ScratchScope scope(backend_);
    std::vector<float> qkv(rows_.begin() + first * columns_, rows_.begin() + (first + count) * columns_);
    const SequenceRows sequence = {
        .first_row = 0, .rows = count, .first_position = first, .block_table = blocks};
    run(qkv, count, {&sequence, 1}, cache, out);
  }

  void run(std::vector<float>& qkv, int64_t count, std::span<const SequenceRows> sequences, KvCache& cache,
           std::vector<float>& out) {
    const AttentionShape shape = {.num_attention_heads = attention_.heads,
                                  .num_key_value_heads = attention_.kv_heads,
                                  .head_dim = attention_.head_dim,
                                  .scale = 1 / std::sqrt(static_cast<float>(attention_.head_dim))};
    Tensor tensor = view_of(qkv, count, columns_);
    const Batch batch = {.sequences = sequences};
    backend_.rope_and_store(tensor, rope_.table, shape, batch, cache, 1);
    const std::vector<float> values =
        copy(backend_.matmul(backend_.attention(tensor, shape, batch, cache, 1), *identity_));
    out.insert(out.end(), values.begin(), values.end());
  }

  std::unique_ptr<KvCache> make_cache(int64_t blocks) {
    return backend_.make_kv_cache(uniform_kv_cache(2, attention_.kv_heads, attention_.head_dim, blocks));
  }
  int64_t columns() const { return columns_; }

 private:
  Backend& backend_;
  Attention attention_;
  int64_t columns_;
  std::vector<float> rows_;
  testing::RopeValues rope_;
  std::unique_ptr<Matrix> identity_;
};

constexpr int32_t kBlocks[] = {3, 0, 2, 1};

std::vector<float> attend(Backend& backend, const Attention& attention, std::vector<int64_t> steps) {
  int64_t positions = 0;
  for (const int64_t step : steps) positions += step;
  AttentionRun run(backend, attention, positions, 7);
  const auto cache = run.make_cache(4);
  std::vector<float> out;
  int64_t first = 0;
  for (const int64_t step : steps) run.step(*cache, kBlocks, first, step, out), first += step;
  return out;
}

TEST_P(EveryTable, AttentionHasTheBitsOfTheReferenceInAnyChunking) {
  for (const Arithmetic arithmetic : kArithmetics)
    for (const Attention& attention : kAttentions) {
      const auto fast = cpu(GetParam(), arithmetic), single = cpu(GetParam(), arithmetic, 1),
                 slow = reference(arithmetic);
      const std::vector<float> want = attend(*slow, attention, {100});
      const auto name = std::to_string(attention.heads) + "x" + std::to_string(attention.head_dim);
      EXPECT_TRUE(same_bits(attend(*fast, attention, {100}), want)) << name;
      EXPECT_TRUE(same_bits(attend(*fast, attention, {5, 28, 1, 66}), want)) << name;
      EXPECT_TRUE(same_bits(attend(*single, attention, {33, 1, 1, 1, 31, 33}), want)) << name;
      EXPECT_TRUE(same_bits(attend(*fast, attention, std::vector<int64_t>(100, 1)), want)) << name;
    }
}

TEST_P(EveryTable, SequencesInOneBatchDoNotMix) {
  const Attention attention = kAttentions[1];
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    AttentionRun a(*backend, attention, 70, 1), b(*backend, attention, 40, 2);
    const auto cache = a.make_cache(6);
    const int32_t table_a[] = {5, 1, 3}, table_b[] = {0, 4};
    std::vector<float> alone_a, alone_b, mixed, ignored;
    a.step(*cache, table_a, 0, 70, alone_a);
    b.step(*cache, table_b, 0, 40, alone_b);
    const auto fresh = a.make_cache(6);
    a.step(*fresh, table_a, 0, 30, ignored);
    std::vector<float> qkv(a.rows().begin() + 30 * a.columns(), a.rows().end());
    qkv.insert(qkv.end(), b.rows().begin(), b.rows().end());
    const SequenceRows sequences[] = {
        {.first_row = 0, .rows = 40, .first_position = 30, .block_table = table_a},
        {.first_row = 40, .rows = 40, .first_position = 0, .block_table = table_b}};
    a.run(qkv, 80, sequences, *fresh, mixed);
    const int64_t width = attention.heads * attention.head_dim;
    alone_a.erase(alone_a.begin(), alone_a.begin() + 30 * width);
    alone_a.insert(alone_a.end(), alone_b.begin(), alone_b.end());
    EXPECT_TRUE(same_bits(mixed, alone_a));
  }
}

TEST_P(EveryTable, WhatAnEarlierOwnerLeftInABlockDoesNotMatter) {
  const Attention attention = kAttentions[1];
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    AttentionRun run(*backend, attention, 100, 1), broken(*backend, attention, 100, 2);
    std::ranges::fill(broken.rows(), std::nanf(""));
    const auto clean = run.make_cache(4), used = run.make_cache(4);
    std::vector<float> want, got, ignored;
    broken.step(*used, kBlocks, 0, 100, ignored);
    EXPECT_TRUE(std::isnan(ignored[0]));
    for (const auto& [first, count] : {std::pair{0, 20}, {20, 1}, {21, 44}, {65, 30}}) {
      run.step(*clean, kBlocks, first, count, want);
      run.step(*used, kBlocks, first, count, got);
    }
    EXPECT_TRUE(same_bits(got, want));
  }
}

// Against softmax(scale q K^T) V in float64.
TEST(Reference, AttentionIsSoftmaxAttention) {
  const Attention attention = {
      .heads = 2, .kv_heads = 1, .head_dim = 32, .rotary_dim = 0, .pairs = RopePairs::adjacent};
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = reference(arithmetic);
    AttentionRun run(*backend, attention, 70, 7);
    const auto cache = run.make_cache(4);
    std::vector<float> out;
    run.step(*cache, kBlocks, 0, 70, out);
    const auto at = [&](int64_t row, int64_t head, int64_t d) {
      return static_cast<double>(run.rows()[row * run.columns() + head * 32 + d]);
    };
    double worst = 0;
    for (int64_t row = 0; row < 70; ++row)
      for (int64_t head = 0; head < 2; ++head) {
        double sum = 0, result[32] = {};
        for (int64_t j = 0; j <= row; ++j) {
          double score = 0;
          for (int64_t d = 0; d < 32; ++d) score += at(row, head, d) * at(j, 2, d);
          const double p = std::exp(score / std::sqrt(32.0));
          sum += p;
          for (int64_t d = 0; d < 32; ++d) result[d] += p * at(j, 3, d);
        }
        for (int64_t d = 0; d < 32; ++d)
          worst = std::max(worst, std::abs(result[d] / sum - out[row * 64 + head * 32 + d]));
      }
    EXPECT_LT(worst, arithmetic == Arithmetic::integer ? 0.02 : 2e-6);
  }
}

// ---- embedding, scratch, selection

TEST_P(EveryTable, EmbedAndSelectCopyRows) {
  for (const DType dtype : testing::weight_dtypes()) {
    const auto fast = cpu(GetParam(), Arithmetic::integer), slow = reference(Arithmetic::integer);
    const OwnedMatrix table = random_matrix(dtype, 50, 256, 1);
    const std::vector<int32_t> tokens = {49, 0, 7, 7, 31, 2, 3, 4, 5};
    const auto run = [&](Backend& backend) {
      const auto matrix = backend.load_embedding(table.view);
      const Tensor x = backend.embed(*matrix, tokens);
      std::vector<float> out = copy(x);
      const int32_t rows[] = {1, 8};
      const std::vector<float> selected = copy(backend.select_rows(x, rows));
      out.insert(out.end(), selected.begin(), selected.end());
      return out;
    };
    EXPECT_TRUE(same_bits(run(*fast), run(*slow))) << dtype_info(dtype).name;
  }
}

TEST_P(EveryTable, AStepDoesNotAllocate) {
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    const OwnedMatrix table = random_matrix(DType::q8_0, 100, 64, 1),
                      square = random_matrix(DType::q4_1, 64, 64, 2),
                      qkv_weights = random_matrix(DType::q4_1, 128, 64, 3);
    const auto embedding = backend->load_embedding(table.view),
               output = backend->load_matrix({&square.view, 1}),
               qkv_matrix = backend->load_matrix({&qkv_weights.view, 1}),
               gate_up = backend->load_gate_up(square.view, square.view);
    const auto cache = backend->make_kv_cache(uniform_kv_cache(1, 1, 32, 4));
    const auto rope = testing::rope_values(128, 32, RopePairs::adjacent);
    const AttentionShape shape = {
        .num_attention_heads = 2, .num_key_value_heads = 1, .head_dim = 32, .scale = 0.2f};
    const std::vector<float> weight(64, 1.0f);
    const std::vector<int32_t> tokens(40, 3);
    const auto step = [&](int64_t position) {
      backend->begin_step({});
      const SequenceRows sequence = {
          .first_row = 0, .rows = 40, .first_position = position, .block_table = kBlocks};
      const Batch batch = {.sequences = {&sequence, 1}};
      Tensor x = backend->embed(*embedding, tokens);
      Tensor qkv = backend->matmul(backend->rms_norm(x, weight, 1e-5f), *qkv_matrix);
      backend->rope_and_store(qkv, rope.table, shape, batch, *cache, 0);
      backend->matmul_add(x, backend->attention(qkv, shape, batch, *cache, 0), *output);
      backend->matmul_add(x, backend->gated_matmul(backend->rms_norm(x, weight, 1e-5f), *gate_up), *output);
      backend->matmul(backend->rms_norm(x, weight, 1e-5f), *embedding);
    };
    step(0);
    const int64_t before = testing::allocations();
    step(40);
    step(80);
    EXPECT_EQ(testing::allocations(), before);
  }
}

TEST(CpuBackend, ParallelForRunsEveryIndexOnce) {
  const auto backend = make_cpu_backend({.threads = 3});
  std::vector<std::atomic<int>> counts(1000);
  for (int round = 0; round < 200; ++round)
    backend->parallel_for(
        1000, [](void* context, int64_t i) { ++(*static_cast<std::vector<std::atomic<int>>*>(context))[i]; },
        &counts);
  for (const auto& count : counts) EXPECT_EQ(count, 200);
}

TEST(CpuBackend, AnUnknownTableIsAnErrorThatNamesTheKnownOnes) {
  try {
    make_cpu_backend({.isa = "sse9"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(error.message().find("sse9"), std::string::npos);
    EXPECT_NE(error.message().find("generic"), std::string::npos);
  }
  EXPECT_EQ(available_isas().back(), "generic");
}

TEST(CpuBackend, TheEnvironmentForcesATableAndOptionsComeFirst) {
  setenv("NEUTRINO_ISA", "generic", 1);
  EXPECT_EQ(make_cpu_backend({.threads = 1})->name(), "cpu/generic");
  const std::string best(available_isas().front());
  EXPECT_EQ(make_cpu_backend({.threads = 1, .isa = best})->name(), "cpu/" + best);
  setenv("NEUTRINO_ISA", "mmx", 1);
  EXPECT_THROW(make_cpu_backend({.threads = 1}), Error);
  unsetenv("NEUTRINO_ISA");
  EXPECT_EQ(make_cpu_backend({.threads = 1})->name(), "cpu/" + best);
}

TEST(CpuBackend, TooLittleScratchIsACheck) {
  const auto backend = make_cpu_backend({.threads = 1});
  backend->reserve(0);
  backend->begin_step({});
  std::vector<float> x(1 << 20);
  const std::vector<float> weight(1 << 10, 1.0f);
  EXPECT_DEATH(backend->rms_norm(view_of(x, 1 << 10, 1 << 10), weight, 0), "scratch");
}

}  // namespace
}  // namespace neutrino::compute
