// The kernels on matrix tiles, proven without the CPU that has them: the same code on emulated tiles (tiles_emulated.inl) gives
// the bits of the reference, and tables with a planted mistake do not. On a CPU with AMX the tests of every table run on the
// real ones too.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "base/checked.h"
#include "base/error.h"
#include "compute/cpu/cpu_backend.h"
#include "compute/cpu/select.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace cpu {

extern const TileKernels kEmulatedTiles;

namespace {

constexpr std::string_view kEmulatedName = "amx_emulated";

bool has_avx512() { return std::ranges::find(available_isas(), "avx512") != available_isas().end(); }

const Kernels& emulated_kernels() {
  static const Kernels kernels = with_tiles(kEmulatedTiles);
  return kernels;
}

}  // namespace
}  // namespace cpu

std::vector<std::string_view> testing::every_table() {
  std::vector<std::string_view> tables(available_isas().begin(), available_isas().end());
  if (cpu::has_avx512()) tables.push_back(cpu::kEmulatedName);
  return tables;
}

std::unique_ptr<Backend> testing::cpu(std::string_view table, Arithmetic arithmetic, int64_t threads) {
  const BackendOptions options = {.arithmetic = arithmetic, .threads = threads, .isa = std::string(table)};
  auto backend =
      table == neutrino::compute::cpu::kEmulatedName
          ? neutrino::compute::cpu::make_backend(options, neutrino::compute::cpu::emulated_kernels())
          : make_cpu_backend(options);
  backend->reserve(64 << 20);
  backend->begin_step({});
  return backend;
}

namespace cpu {
namespace {

using testing::copy;
using testing::OwnedMatrix;
using testing::random_floats;
using testing::random_matrix;
using testing::reference;
using testing::same_bits;
using testing::view_of;

class TilesOnAvx512 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_avx512()) GTEST_SKIP() << "the kernels around the emulated tiles need AVX-512 VNNI";
  }
};

std::unique_ptr<Backend> backend_on(const Kernels& kernels, int64_t threads = 2) {
  auto backend = make_backend({.threads = threads}, kernels);
  backend->reserve(64 << 20);
  backend->begin_step({});
  return backend;
}

// x W and sum + x W.
std::vector<float> product(Backend& backend, const OwnedMatrix& w, std::vector<float> x, int64_t rows) {
  const auto matrix = backend.load_matrix({&w.view, 1});
  const ScratchScope scope(backend);
  const Activation activation = backend.activation(view_of(x, rows, w.view.columns));
  std::vector<float> sum = random_floats(rows * w.view.rows, 9);
  Tensor sums = view_of(sum, rows, w.view.rows);
  backend.matmul_add(sums, activation, *matrix);
  const std::vector<float> out = copy(backend.matmul(activation, *matrix));
  sum.insert(sum.end(), out.begin(), out.end());
  return sum;
}

std::vector<DType> types() { return testing::weight_dtypes(); }

// A shape that the type allows, of up to 70 rows and about `columns` columns; plain types have odd ones.
OwnedMatrix some_matrix(DType dtype, int64_t columns, uint64_t seed) {
  const int64_t block = dtype_info(dtype).block;
  const auto rows = static_cast<int64_t>(1 + Random(seed).below(70));
  return random_matrix(dtype, rows, ceil_div(columns, block) * block, seed);
}

// How many of the row counts give other bits than the reference, each with another shape of each type.
int64_t differences(const Kernels& kernels, std::span<const DType> dtypes, int64_t rows_min,
                    int64_t rows_max) {
  const auto fast = backend_on(kernels), slow = reference(Arithmetic::integer);
  int64_t different = 0;
  for (int64_t rows = rows_min; rows <= rows_max; ++rows)
    for (const DType dtype : dtypes) {
      const auto seed = static_cast<uint64_t>(rows * 100 + static_cast<int64_t>(dtype));
      const OwnedMatrix w = some_matrix(dtype, static_cast<int64_t>(1 + Random(seed + 1).below(400)), seed);
      const std::vector<float> x = random_floats(rows * w.view.columns, seed + 2);
      different += !same_bits(product(*fast, w, x, rows), product(*slow, w, x, rows));
    }
  return different;
}

constexpr DType kKinds[] = {DType::q4_1, DType::q5_1, DType::f16};

TEST_F(TilesOnAvx512, ProductsOfOneToFortyRowsHaveTheBitsOfTheReference) {
  EXPECT_EQ(differences(emulated_kernels(), types(), 1, 40), 0);
}

// More rows than a panel is unpacked for, and more columns than a segment has (4096).
TEST_F(TilesOnAvx512, ManyRowsAndLongOnes) {
  const auto fast = backend_on(emulated_kernels()), slow = reference(Arithmetic::integer);
  for (const DType dtype : kKinds)
    for (const auto& [rows, columns] :
         {std::pair<int64_t, int64_t>{211, 96}, {19, 4096}, {21, 4128}, {18, 9312}}) {
      const OwnedMatrix w = random_matrix(dtype, 33, columns, 1);
      const std::vector<float> x = random_floats(rows * columns, 2);
      EXPECT_TRUE(same_bits(product(*fast, w, x, rows), product(*slow, w, x, rows)))
          << dtype_info(dtype).name << ", " << rows << " rows of " << columns;
    }
}

// The largest sums that there can be: all weights of a row at their limit, of one sign or of alternating signs, and so are the
// activations.
void fill_extreme(OwnedMatrix& w, uint8_t q) {
  const DTypeInfo& info = dtype_info(w.view.dtype);
  const auto bytes = static_cast<size_t>(info.block_bytes);
  for (size_t at = 0; at < w.bytes.size(); at += bytes) {
    auto* block = reinterpret_cast<uint8_t*>(w.bytes.data() + at);
    std::fill_n(block, bytes, q);
    const bool negative = info.block == 1 && q == 0x80 && at / bytes % 2 == 1;
    testing::put16(block, 0, f32_to_f16(negative ? -1.0f : 1.0f));
    if (w.view.dtype == DType::q4_1) testing::put16(block, 2, f32_to_f16(0));
  }
}

TEST_F(TilesOnAvx512, TheLargestSums) {
  constexpr int64_t kRows = 20, kColumns = 8256;
  const auto fast = backend_on(emulated_kernels()), slow = reference(Arithmetic::integer);
  for (const DType dtype : {DType::q4_0, DType::q4_1, DType::q8_0, DType::f16})
    for (const uint8_t q : {uint8_t{0x00}, uint8_t{0x80}, uint8_t{0x7F}, uint8_t{0xFF}}) {
      OwnedMatrix w = random_matrix(dtype, 17, kColumns, 1);
      fill_extreme(w, q);
      std::vector<float> x(kRows * kColumns);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = i / kColumns % 3 == 0 ? 1.0f : i / kColumns % 3 == 1 ? -1.0f : i % 2 ? 1.0f : -1.0f;
      EXPECT_TRUE(same_bits(product(*fast, w, x, kRows), product(*slow, w, x, kRows)))
          << dtype_info(dtype).name << ' ' << int{q};
    }
}

TEST_F(TilesOnAvx512, ARowOfNoNumberStaysAlone) {
  const auto fast = backend_on(emulated_kernels());
  const OwnedMatrix w = random_matrix(DType::q4_1, 20, 96, 1);
  std::vector<float> x = random_floats(18 * 96, 2);
  const std::vector<float> before = product(*fast, w, x, 18);
  x[7 * 96 + 3] = std::nanf("");
  const std::vector<float> after = product(*fast, w, x, 18);
  for (size_t i = 0; i < before.size(); ++i)
    if (i / 20 % 18 == 7)
      EXPECT_TRUE(std::isnan(after[i]));
    else
      EXPECT_EQ(after[i], before[i]);
}

// ---- planted mistakes

// The two planes of an activation exchanged.
void quantize_wrong_planes(const float* x, int64_t n, uint8_t* row) {
  kEmulatedTiles.quantize(x, n, row);
  const int64_t blocks = ceil_div(n, kColumnBlock);
  for (int64_t pair = 0; pair < ceil_div(blocks, 2); ++pair) {
    uint8_t* planes = row + planes_offset(blocks) + pair * kPlanePairBytes;
    std::swap_ranges(planes, planes + 64, planes + 64);
  }
}

// One scale for all rows of a call: what a table would do that quantised activations by the chunk.
void nibble_panels_scale_per_chunk(const PanelTask& task) {
  std::vector<uint8_t> rows(task.x, task.x + task.rows * task.x_stride);
  const auto header = [&](int64_t r) {
    return reinterpret_cast<ActivationHeader*>(rows.data() + r * task.x_stride);
  };
  float largest = 0;
  for (int64_t r = 0; r < task.rows; ++r) largest = std::max(largest, header(r)->scale);
  for (int64_t r = 0; r < task.rows; ++r) {
    auto* words = reinterpret_cast<int16_t*>(reinterpret_cast<uint8_t*>(header(r) + 1) +
                                             task.blocks * static_cast<int64_t>(sizeof(XBlock)));
    auto* planes = reinterpret_cast<uint8_t*>(header(r)) + planes_offset(task.blocks);
    for (int64_t c = 0; c < task.blocks * kColumnBlock; ++c) {
      const auto x =
          static_cast<int16_t>(std::lrint(static_cast<float>(words[c]) * header(r)->scale / largest));
      uint8_t* high = planes + c / 64 * kPlanePairBytes + c % 64;
      high[0] = static_cast<uint8_t>(x >> 8), high[64] = static_cast<uint8_t>(x);
    }
    header(r)->scale = largest;
  }
  PanelTask chunk = task;
  chunk.x = rows.data();
  kEmulatedTiles.nibble_panels(chunk);
}

TEST_F(TilesOnAvx512, APlantedMistakeIsFound) {
  Kernels planes = emulated_kernels(), chunks = emulated_kernels();
  planes.quantize = quantize_wrong_planes;
  chunks.nibble_panels = nibble_panels_scale_per_chunk;
  EXPECT_EQ(differences(planes, kKinds, 16, 20), 5 * 3);
  EXPECT_EQ(differences(planes, kKinds, 1, 5), 0) << "one to five rows are the AVX-512 kernels'";
  EXPECT_EQ(differences(chunks, kKinds, 16, 20), 5) << "nibbles";
}

TEST_F(TilesOnAvx512, TheCheckAtSelectionFindsAWrongTable) {
  EXPECT_TRUE(same_products(emulated_kernels(), kAvx512Kernels));
  Kernels planes = emulated_kernels(), bytes = emulated_kernels(), words = emulated_kernels();
  planes.quantize = quantize_wrong_planes;
  bytes.byte_panels = [](const PanelTask&) {};
  words.word_panels = [](const PanelTask& task) {
    kEmulatedTiles.word_panels(task);
    task.out[task.out_stride * (task.rows - 1) + 16 * task.panels - 1] += 1;
  };
  for (const Kernels* wrong : {&planes, &bytes, &words}) EXPECT_FALSE(same_products(*wrong, kAvx512Kernels));

  EXPECT_TRUE(same_attention(emulated_kernels(), kAvx512Kernels));
  Kernels reversed = emulated_kernels();
  reversed.attend = [](const AttentionTask& task) {
    AttentionTask other = task;
    const int32_t blocks[] = {task.block_table[1], task.block_table[0], task.block_table[2]};
    other.block_table = blocks;
    kEmulatedTiles.attend(other);
  };
  EXPECT_FALSE(same_attention(reversed, kAvx512Kernels)) << "a sum in another order of blocks";
}

// A CPU with the instructions has the table, unless its products are wrong or the system keeps the registers back; and on any
// other it is an error by name.
TEST(AmxTable, IsListedWhereItRuns) {
  const bool listed = std::ranges::find(available_isas(), "amx") != available_isas().end();
  EXPECT_EQ(listed, available_isas().front() == "amx");
  if (!__builtin_cpu_supports("amx-int8")) {
    EXPECT_FALSE(listed);
  }
  if (!listed) {
    EXPECT_THROW(select_kernels("amx"), Error);
  }
}

}  // namespace
}  // namespace cpu
}  // namespace neutrino::compute
