// Attention with windows, without causality, with softcaps, sinks and values of their own width: every kernel table against
// the reference, in any chunking, and the reference against float64.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compute/backend.h"
#include "compute/cpu/cpu_backend.h"
#include "compute/paged_kv_cache.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

using testing::copy;
using testing::cpu;
using testing::kArithmetics;
using testing::random_floats;
using testing::reference;
using testing::same_bits;
using testing::values_of;
using testing::view_of;

class AttentionOnEveryTable : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Isa, AttentionOnEveryTable, ::testing::ValuesIn(testing::every_table()),
                         [](const auto& param) { return std::string(param.param); });

constexpr float kSinks[] = {0.5f, -2.0f, 4.0f, 0.0f};

const AttentionShape kShapes[] = {
    {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 32, .scale = 0.18f, .window = 1},
    {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 32, .scale = 0.18f, .window = 20},
    {.num_attention_heads = 2, .num_key_value_heads = 2, .head_dim = 48, .scale = 0.14f, .window = 64},
    {.num_attention_heads = 4, .num_key_value_heads = 4, .head_dim = 32, .scale = 0.18f, .causal = false},
    {.num_attention_heads = 3,
     .num_key_value_heads = 1,
     .head_dim = 16,
     .scale = 0.25f,
     .window = 13,
     .causal = false},
    {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 32, .scale = 0.18f, .softcap = 5.0f},
    {.num_attention_heads = 4, .num_key_value_heads = 1, .head_dim = 64, .scale = 0.13f, .sinks = kSinks},
    {.num_attention_heads = 4,
     .num_key_value_heads = 2,
     .head_dim = 24,
     .scale = 0.2f,
     .value_dim = 40,
     .window = 33,
     .softcap = 3.0f,
     .sinks = kSinks},
    {.num_attention_heads = 3, .num_key_value_heads = 1, .head_dim = 576, .scale = 0.04f, .value_dim = 512},
};

int64_t width_of_values(const AttentionShape& shape) {
  return shape.value_dim > 0 ? shape.value_dim : shape.head_dim;
}
int64_t row_width(const AttentionShape& shape) {
  return (shape.num_attention_heads + shape.num_key_value_heads) * shape.head_dim +
         shape.num_key_value_heads * width_of_values(shape);
}

constexpr int32_t kTable[] = {4, 0, 2, 1};
constexpr int64_t kPositions = 100;

// The cache of three layers, of which the operations use the middle one; the others have other shapes.
KvCacheShape cache_shape(const AttentionShape& shape, KvType type = KvType::bf16) {
  const KvLayer other = {.num_key_value_heads = 3, .key_dim = 5, .value_dim = 70};
  return {.layers = {other,
                     {.num_key_value_heads = shape.num_key_value_heads,
                      .key_dim = shape.head_dim,
                      .value_dim = width_of_values(shape)},
                     other},
          .blocks = 5,
          .type = type};
}

// Outputs of a sequence of fixed rows in steps of these sizes.
std::vector<float> attend(Backend& backend, const AttentionShape& shape, const std::vector<int64_t>& steps,
                          KvType type = KvType::bf16) {
  const std::vector<float> all = random_floats(kPositions * row_width(shape), 3, 2.0f);
  const auto cache = backend.make_kv_cache(cache_shape(shape, type));
  std::vector<float> out;
  int64_t first = 0;
  for (const int64_t count : steps) {
    const ScratchScope scope(backend);
    std::vector<float> rows(all.begin() + first * row_width(shape),
                            all.begin() + (first + count) * row_width(shape));
    Tensor qkv = view_of(rows, count, row_width(shape));
    const SequenceRows sequence = {.rows = count, .first_position = first, .block_table = kTable};
    const Batch batch = {.sequences = {&sequence, 1}};
    backend.rope_and_store(qkv, {}, shape, batch, *cache, 1);
    const Tensor values = backend.attention_values(qkv, shape, batch, *cache, 1);
    const std::vector<float> part = copy(values), same = values_of(backend, backend.activation(values));
    EXPECT_TRUE(same_bits(values_of(backend, backend.attention(qkv, shape, batch, *cache, 1)), same));
    out.insert(out.end(), part.begin(), part.end());
    first += count;
  }
  return out;
}

TEST_P(AttentionOnEveryTable, EveryShapeHasTheBitsOfTheReferenceInAnyChunking) {
  for (const Arithmetic arithmetic : kArithmetics)
    for (const AttentionShape& shape : kShapes) {
      const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
      const std::vector<float> want = attend(*slow, shape, {kPositions});
      const auto expect_same = [&](const std::vector<int64_t>& steps) {
        EXPECT_TRUE(same_bits(attend(*fast, shape, steps), want))
            << "shape " << &shape - kShapes << ", steps " << steps.size();
      };
      expect_same({kPositions});
      if (!shape.causal) continue;
      expect_same({5, 28, 1, 66});
      if (shape.head_dim < 100) expect_same(std::vector<int64_t>(kPositions, 1));
    }
}

TEST_P(AttentionOnEveryTable, EveryTypeOfCacheHasTheBitsOfTheReferenceInAnyChunking) {
  const auto fast = cpu(GetParam(), Arithmetic::integer), slow = reference(Arithmetic::integer);
  for (const KvType type : {KvType::f16, KvType::q8_0})
    for (const AttentionShape& shape : kShapes) {
      if (type == KvType::f16 && shape.head_dim > 100) continue;  // seconds; q8_0 has it
      const std::vector<float> want = attend(*slow, shape, {kPositions}, type);
      EXPECT_FALSE(same_bits(want, attend(*slow, shape, {kPositions}))) << "bf16 is another type";
      const auto expect_same = [&](const std::vector<int64_t>& steps) {
        EXPECT_TRUE(same_bits(attend(*fast, shape, steps, type), want))
            << "shape " << &shape - kShapes << ", steps " << steps.size();
      };
      expect_same({kPositions});
      if (!shape.causal) continue;
      expect_same({5, 28, 1, 66});
      if (shape.head_dim < 100) expect_same(std::vector<int64_t>(kPositions, 1));
    }
}

// The query heads of a key/value head are cut into parts where they fit no batch, and where threads would have nothing to do.
TEST_P(AttentionOnEveryTable, PartsOfTheHeadsHaveTheBitsOfTheReference) {
  constexpr AttentionShape kMany = {
      .num_attention_heads = 60, .num_key_value_heads = 1, .head_dim = 512, .scale = 0.04f, .value_dim = 4};
  constexpr AttentionShape kFew = {
      .num_attention_heads = 35, .num_key_value_heads = 1, .head_dim = 16, .scale = 0.25f};
  const int64_t heads_min = GetParam() == "amx" || GetParam() == "amx_emulated" ? 16 : 2;
  for (const Arithmetic arithmetic : kArithmetics)
    for (const AttentionShape& shape : {kFew, kMany, kShapes[6]}) {
      const std::vector<float> want = attend(*reference(arithmetic), shape, {kPositions});
      int64_t alone = 0;  // blocks that one thread reads for three rows, one at a time
      for (const int64_t threads : {1, 2, 5}) {
        const auto fast = cpu(GetParam(), arithmetic, threads);
        EXPECT_TRUE(same_bits(attend(*fast, shape, {97, 1, 2}), want)) << threads;
        const int64_t before = cpu::block_reads(*fast);
        attend(*fast, shape, {1, 1, 1});
        const int64_t reads = cpu::block_reads(*fast) - before;
        if (threads == 1) alone = reads;
        const int64_t parts = std::max<int64_t>(1, std::min(threads, shape.num_attention_heads / heads_min));
        if (shape.head_dim < 100) {
          EXPECT_EQ(reads, alone * parts) << threads;
        }
      }
    }
}

// Queries share a batch and a softmax with their neighbours, but no bit of their own.
TEST_P(AttentionOnEveryTable, ANaNStaysInItsRow) {
  const AttentionShape& shape = kShapes[6];
  const int64_t width = row_width(shape), columns = shape.num_attention_heads * shape.head_dim;
  const auto backend = cpu(GetParam(), Arithmetic::integer);
  const auto cache = backend->make_kv_cache(cache_shape(shape));
  const auto run = [&](int64_t bad_row) {
    const ScratchScope scope(*backend);
    std::vector<float> rows = random_floats(kPositions * width, 3, 2.0f);
    if (bad_row >= 0) rows[bad_row * width + 1] = std::nanf("");
    Tensor qkv = view_of(rows, kPositions, width);
    const SequenceRows sequence = {.rows = kPositions, .block_table = kTable};
    const Batch batch = {.sequences = {&sequence, 1}};
    backend->rope_and_store(qkv, {}, shape, batch, *cache, 1);
    return copy(backend->attention_values(qkv, shape, batch, *cache, 1));
  };
  const std::vector<float> clean = run(-1);
  std::vector<float> got = run(50);
  for (int64_t d = 0; d < shape.head_dim; ++d) {  // of head 0
    float& value = got[50 * columns + d];
    EXPECT_TRUE(std::isnan(value));
    value = clean[50 * columns + d];
  }
  EXPECT_TRUE(same_bits(got, clean));
}

// A cache where layers with a window have blocks of their own, and no more of them than the window and a step need: what falls
// behind `kept` positions is given to the next positions, and its place in the table says so if `marks`. Outputs as attend()'s.
std::vector<float> attend_in_a_ring(Backend& backend, const AttentionShape& shape, int64_t kept, bool marks,
                                    const std::vector<int64_t>& steps) {
  const std::vector<float> all = random_floats(kPositions * row_width(shape), 3, 2.0f);
  KvCacheShape with_window = cache_shape(shape);
  with_window.layers[1].window = shape.window;
  with_window.blocks = 1;
  with_window.window_blocks = 4;
  const auto cache = backend.make_kv_cache(with_window);
  std::vector<int32_t> table, free = {2, 0, 3, 1};
  std::vector<float> out;
  size_t behind = 0;
  int64_t first = 0;
  for (const int64_t count : steps) {
    const ScratchScope scope(backend);
    for (; static_cast<int64_t>(behind + 1) * kBlockPositions <= first - kept + 1; ++behind) {
      free.push_back(table[behind]);
      if (marks) table[behind] = kNoBlock;
    }
    for (; std::ssize(table) * kBlockPositions < first + count; free.pop_back()) table.push_back(free.back());
    std::vector<float> rows(all.begin() + first * row_width(shape),
                            all.begin() + (first + count) * row_width(shape));
    Tensor qkv = view_of(rows, count, row_width(shape));
    const SequenceRows sequence = {.rows = count, .first_position = first, .window_table = table};
    const Batch batch = {.sequences = {&sequence, 1}};
    backend.rope_and_store(qkv, {}, shape, batch, *cache, 1);
    const std::vector<float> part = copy(backend.attention_values(qkv, shape, batch, *cache, 1));
    out.insert(out.end(), part.begin(), part.end());
    first += count;
  }
  return out;
}

TEST_P(AttentionOnEveryTable, LayersWithAWindowNeedNoMoreThanTheirWindow) {
  const std::vector<int64_t> chunks = {5, 28, 1, 66}, singles(kPositions, 1);
  for (const Arithmetic arithmetic : kArithmetics)
    for (const AttentionShape& shape : kShapes) {
      if (shape.window == 0 || !shape.causal) continue;
      const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
      const std::vector<float> want = attend(*slow, shape, {kPositions});
      for (const auto& steps : {chunks, singles}) {
        EXPECT_TRUE(same_bits(attend_in_a_ring(*slow, shape, shape.window, true, steps), want));
        EXPECT_TRUE(same_bits(attend_in_a_ring(*fast, shape, shape.window, true, steps), want));
      }
      // The negative control: a block fewer is kept, and overwritten where it is still seen.
      if (shape.window == 1) continue;
      EXPECT_FALSE(
          same_bits(attend_in_a_ring(*fast, shape, shape.window - kBlockPositions, false, singles), want));
    }
}

// Sequences whose first blocks are the same: what each has computed behind them, and the rows of its next step.
struct Branch {
  int64_t own = 0, rows = 0;
};
constexpr int64_t kTrunkBlocks = 3, kTrunk = kTrunkBlocks * kBlockPositions;
constexpr Branch kBranches[] = {{1, 1}, {40, 3}, {31, 2}, {0, 1}, {17, 9}};
constexpr int64_t kBranchBlocks = 2;

// Outputs of the branches' next rows, in one batch or each by itself; and the blocks that were gone through.
std::vector<float> attend_branches(Backend& backend, const AttentionShape& shape, KvType type,
                                   bool together) {
  KvCacheShape cache_of_all = cache_shape(shape, type);
  cache_of_all.blocks = kTrunkBlocks + kBranchBlocks * static_cast<int64_t>(std::size(kBranches));
  const auto cache = backend.make_kv_cache(cache_of_all);
  std::vector<std::vector<int32_t>> tables;
  const auto run = [&](const std::vector<SequenceRows>& sequences, uint64_t seed) {
    const ScratchScope scope(backend);
    const int64_t count = sequences.back().first_row + sequences.back().rows;
    std::vector<float> rows = random_floats(count * row_width(shape), seed, 2.0f);
    Tensor qkv = view_of(rows, count, row_width(shape));
    const Batch batch = {.sequences = sequences};
    backend.rope_and_store(qkv, {}, shape, batch, *cache, 1);
    return copy(backend.attention_values(qkv, shape, batch, *cache, 1));
  };
  std::vector<int32_t> trunk;
  for (int32_t block = 0; block < kTrunkBlocks; ++block) trunk.push_back(block);
  run({{.rows = kTrunk, .block_table = trunk}}, 1);
  for (size_t i = 0; i < std::size(kBranches); ++i) {
    tables.push_back(trunk);
    for (int64_t block = 0; block < kBranchBlocks; ++block)
      tables[i].push_back(
          static_cast<int32_t>(kTrunkBlocks + kBranchBlocks * static_cast<int64_t>(i) + block));
    if (kBranches[i].own > 0)
      run({{.rows = kBranches[i].own, .first_position = kTrunk, .block_table = tables[i]}}, 10 + i);
  }
  std::vector<SequenceRows> sequences;
  int64_t first_row = 0;
  for (size_t i = 0; i < std::size(kBranches); first_row += kBranches[i++].rows)
    sequences.push_back({.first_row = first_row,
                         .rows = kBranches[i].rows,
                         .first_position = kTrunk + kBranches[i].own,
                         .block_table = tables[i]});
  if (together) return run(sequences, 99);
  std::vector<float> all = random_floats(first_row * row_width(shape), 99, 2.0f), out;
  for (SequenceRows sequence : sequences) {
    const ScratchScope scope(backend);
    Tensor rows = view_of(all, first_row, row_width(shape));
    rows.data += sequence.first_row * rows.stride;
    rows.rows = sequence.rows;
    sequence.first_row = 0;
    const Batch batch = {.sequences = {&sequence, 1}};
    backend.rope_and_store(rows, {}, shape, batch, *cache, 1);
    const std::vector<float> part = copy(backend.attention_values(rows, shape, batch, *cache, 1));
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

TEST_P(AttentionOnEveryTable, SequencesThatShareBlocksGoThroughThemOnceAndKeepTheirBits) {
  for (const KvType type : {KvType::bf16, KvType::q8_0})
    for (const AttentionShape& shape : kShapes) {
      if (!shape.causal || shape.window > 0) continue;
      const bool wide = shape.head_dim > 100;
      if (wide && type == KvType::q8_0) continue;                    // seconds
      const auto backend = cpu(GetParam(), Arithmetic::integer, 1);  // of more, each wants something to do
      std::vector<float> alone = attend_branches(*backend, shape, type, false);
      EXPECT_TRUE(
          same_bits(attend_branches(*cpu(GetParam(), Arithmetic::integer, 2), shape, type, true), alone));
      const int64_t before = cpu::block_reads(*backend);
      EXPECT_TRUE(same_bits(attend_branches(*backend, shape, type, true), alone)) << &shape - kShapes;
      if (!wide) {
        EXPECT_TRUE(same_bits(attend_branches(*reference(Arithmetic::integer), shape, type, true), alone));
      }
      const int64_t together = cpu::block_reads(*backend) - before;
      attend_branches(*backend, shape, type, false);
      const int64_t each = cpu::block_reads(*backend) - before - together;
      // The trunk is read once, not five times.
      if (!wide) {
        EXPECT_GE(each - together, shape.num_key_value_heads * 4 * kTrunkBlocks) << &shape - kShapes;
      }
      alone[7] += 1;
      EXPECT_FALSE(same_bits(attend_branches(*backend, shape, type, true), alone));
    }
}

// The finer the type, the closer to the float32 cache.
TEST(Attention, TypesOfCacheHaveTheErrorsOfTheirWidths) {
  const AttentionShape& shape = kShapes[1];
  const std::vector<float> exact = attend(*reference(Arithmetic::float32), shape, {kPositions});
  const auto error = [&](KvType type) {
    const std::vector<float> values = attend(*reference(Arithmetic::integer), shape, {kPositions}, type);
    double sum = 0, all = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      sum += (values[i] - exact[i]) * (values[i] - exact[i]);
      all += exact[i] * exact[i];
    }
    return std::sqrt(sum / all);
  };
  EXPECT_LT(error(KvType::f16), 0.005);  // the probabilities and queries are bfloat16
  EXPECT_LT(error(KvType::bf16), 0.006);
  EXPECT_LT(error(KvType::q8_0), 0.015);
  EXPECT_GT(error(KvType::q8_0), error(KvType::f16));
}

TEST(PagedKvCache, ValuesOfEachTypeAreRoundedSaturatedAndNeverInfinite) {
  const auto stored = [](KvType type, float x, float other) {
    KvCacheShape shape = uniform_kv_cache(1, 1, 2, 1);
    shape.type = type;
    PagedKvCache cache(shape, Arithmetic::integer);
    const float key[] = {x, other}, value[] = {other, x};
    cache.store(0, 0, 0, 0, key, value);
    const float k = cache.key(cache.layer(0), cache.tiles(0, 0), 0, 0);
    const float v = cache.value(cache.layer(0), cache.tiles(0, 0), 0, 1);
    EXPECT_TRUE(k == v || (std::isnan(k) && std::isnan(v)));
    return k;
  };
  EXPECT_EQ(stored(KvType::f16, 1.5f, 0), 1.5f);
  EXPECT_EQ(stored(KvType::f16, 1e9f, 0), kF16Max);
  EXPECT_EQ(stored(KvType::f16, -1e9f, 0), -kF16Max);
  EXPECT_EQ(stored(KvType::f16, -1e-5f, 0), 0.0f);
  EXPECT_TRUE(std::isnan(stored(KvType::f16, std::nanf(""), 0)));
  EXPECT_EQ(stored(KvType::q8_0, 127.0f, -3.0f), 127.0f);
  EXPECT_EQ(stored(KvType::q8_0, 2.4f, 127.0f), 2.0f);
  EXPECT_EQ(stored(KvType::q8_0, 0, 0), 0.0f);
  EXPECT_EQ(stored(KvType::q8_0, 1e-35f, 0), 0.0f);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    EXPECT_TRUE(std::isnan(stored(KvType::q8_0, bad, 1)));
    EXPECT_TRUE(std::isnan(stored(KvType::q8_0, 1, bad))) << "they share a scale";
  }
}

TEST(PagedKvCache, BytesFollowTheType) {
  KvCacheShape shape = uniform_kv_cache(2, 3, 64, 1);
  const auto bytes = [&](KvType type) {
    shape.type = type;
    return kv_block_bytes(shape, Arithmetic::integer);
  };
  EXPECT_EQ(bytes(KvType::bf16), 2 * 3 * 2 * 64 * 32 * 2);
  EXPECT_EQ(bytes(KvType::f16), bytes(KvType::bf16));
  EXPECT_EQ(bytes(KvType::q8_0), 2 * 3 * 2 * 64 * 32 * 9 / 8);
}

// Bidirectional sequences beside each other see themselves alone.
TEST_P(AttentionOnEveryTable, BidirectionalSequencesInOneBatchDoNotMix) {
  const AttentionShape& shape = kShapes[3];
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    const int64_t width = row_width(shape), lengths[] = {7, 33, 64};
    const std::vector<float> all = random_floats(104 * width, 5, 2.0f);
    const int32_t tables[][2] = {{3, 3}, {0, 4}, {1, 2}};
    const auto run = [&](size_t first, size_t end) {
      std::vector<SequenceRows> sequences;
      int64_t rows = 0, before = 0;
      for (size_t i = 0; i < first; ++i) before += lengths[i];
      for (size_t i = first; i < end; rows += lengths[i++])
        sequences.push_back({.first_row = rows, .rows = lengths[i], .block_table = tables[i]});
      std::vector<float> part(all.begin() + before * width, all.begin() + (before + rows) * width);
      Tensor qkv = view_of(part, rows, width);
      const auto cache = backend->make_kv_cache(cache_shape(shape));
      const Batch batch = {.sequences = sequences};
      const ScratchScope scope(*backend);
      backend->rope_and_store(qkv, {}, shape, batch, *cache, 1);
      return copy(backend->attention_values(qkv, shape, batch, *cache, 1));
    };
    const std::vector<float> together = run(0, 3);
    std::vector<float> alone;
    for (size_t i = 0; i < 3; ++i) {
      const std::vector<float> one = run(i, i + 1);
      alone.insert(alone.end(), one.begin(), one.end());
    }
    EXPECT_TRUE(same_bits(together, alone));
  }
}

// softmax(...) V of the whole sequence in float64.
std::vector<double> exact(const AttentionShape& shape) {
  const std::vector<float> rows = random_floats(kPositions * row_width(shape), 3, 2.0f);
  const int64_t heads = shape.num_attention_heads, kv_heads = shape.num_key_value_heads;
  const int64_t keys = heads * shape.head_dim, values = keys + kv_heads * shape.head_dim;
  std::vector<double> out;
  for (int64_t q = 0; q < kPositions; ++q)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / kv_heads), width = width_of_values(shape);
      double sum = shape.sinks.empty() ? 0 : std::exp(static_cast<double>(shape.sinks[h]));
      std::vector<double> mixed(static_cast<size_t>(width));
      for (int64_t k = 0; k < kPositions; ++k) {
        if ((shape.causal && k > q) || (shape.window > 0 && std::abs(q - k) >= shape.window)) continue;
        double score = 0;
        for (int64_t d = 0; d < shape.head_dim; ++d)
          score += static_cast<double>(rows[q * row_width(shape) + h * shape.head_dim + d]) *
                   rows[k * row_width(shape) + keys + kv * shape.head_dim + d];
        score *= shape.scale;
        if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
        const double p = std::exp(score);
        sum += p;
        for (int64_t d = 0; d < width; ++d)
          mixed[d] += p * rows[k * row_width(shape) + values + kv * width + d];
      }
      for (const double value : mixed) out.push_back(value / sum);
    }
  return out;
}

TEST(Reference, EveryShapeOfAttentionIsItsDefinition) {
  for (const Arithmetic arithmetic : kArithmetics)
    for (const AttentionShape& shape : kShapes) {
      const std::vector<float> got = attend(*reference(arithmetic), shape, {kPositions});
      const std::vector<double> want = exact(shape);
      double worst = 0;
      for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(got[i] - want[i]));
      EXPECT_LT(worst, arithmetic == Arithmetic::integer ? 0.04 : 4e-6) << "shape " << &shape - kShapes;
    }
  // The negative control: another shape is further away than that.
  AttentionShape other = kShapes[1];
  other.window = 21;
  const std::vector<double> a = exact(kShapes[1]), b = exact(other);
  double apart = 0;
  for (size_t i = 0; i < a.size(); ++i) apart = std::max(apart, std::abs(a[i] - b[i]));
  EXPECT_GT(apart, 0.1);
}

TEST(KvCache, LayersOfDifferentShapesHaveTheirSizes) {
  const KvCacheShape shape = cache_shape(kShapes[7]);
  // integer: dims in multiples of 32, 2 bytes; 24 and 40 become 32 and 64, 5 and 70 become 32 and 96.
  EXPECT_EQ(kv_block_bytes(shape, Arithmetic::integer), 32 * 2 * (2 * 3 * (32 + 96) + 2 * (32 + 64)));
  EXPECT_EQ(kv_block_bytes(shape, Arithmetic::float32), 32 * 4 * (2 * 3 * (5 + 70) + 2 * (24 + 40)));
  const auto backend = reference(Arithmetic::integer);
  std::vector<float> rows(static_cast<size_t>(row_width(kShapes[7])));
  Tensor qkv = view_of(rows, 1, row_width(kShapes[7]));
  const auto cache = backend->make_kv_cache(shape);
  EXPECT_DEATH(backend->rope_and_store(qkv, {}, kShapes[7], {}, *cache, 0), "another shape");
  EXPECT_DEATH(backend->rope_and_store(qkv, {}, kShapes[7], {}, *cache, 3), "does not have");
}

}  // namespace
}  // namespace neutrino::compute
