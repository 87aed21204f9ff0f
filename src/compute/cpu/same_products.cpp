// Two tables beside each other on small products and attention, before one of them is trusted.

#include <cstring>
#include <vector>

#include "base/random.h"
#include "compute/cpu/select.h"
#include "compute/dtype.h"

namespace neutrino::compute::cpu {
namespace {

constexpr int64_t kBlocks = 5, kPanels = 2, kRows = 37;

struct Kind {
  void (*Kernels::*product)(const PanelTask&);
  int64_t block;  // bytes
  void (*fill)(Random& random, uint8_t* block);
};

int64_t between(Random& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
}

void fill_nibbles(Random& random, uint8_t* block) {
  for (int i = 0; i < 256; ++i) block[i] = static_cast<uint8_t>(random.next());
  auto* ef = reinterpret_cast<int16_t*>(block + 256);
  for (int i = 0; i < 2 * kPanelRows; ++i) ef[i] = static_cast<int16_t>(between(random, -1500, 1500));
}

void fill_fives(Random& random, uint8_t* block) {
  for (int i = 0; i < 320; ++i) block[i] = static_cast<uint8_t>(random.next());
  auto* ef = reinterpret_cast<int16_t*>(block + 320);
  for (int i = 0; i < 2 * kPanelRows; ++i) ef[i] = static_cast<int16_t>(between(random, -900, 900));
}

void fill_bytes(Random& random, uint8_t* block) {
  for (int i = 0; i < 512; ++i) block[i] = static_cast<uint8_t>(random.next());
  auto* e = reinterpret_cast<float*>(block + 512);
  for (int i = 0; i < kPanelRows; ++i) e[i] = static_cast<float>(between(random, -65535, 65535));
}

void fill_words(Random& random, uint8_t* block) {
  auto* w = reinterpret_cast<int16_t*>(block);
  for (int i = 0; i < 512; ++i) w[i] = static_cast<int16_t>(between(random, -1000, 1000));
}

constexpr Kind kKinds[] = {
    {&Kernels::nibble_panels, kNibbleBlockBytes, fill_nibbles},
    {&Kernels::five_panels, kFiveBlockBytes, fill_fives},
    {&Kernels::byte_panels, kByteBlockBytes, fill_bytes},
    {&Kernels::word_panels, kWordBlockBytes, fill_words},
};

// What the kernels want aligned is: the vectors' memory is cut to a multiple of 64.
uint8_t* aligned(std::vector<uint8_t>& bytes) {
  return bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
}

}  // namespace

bool same_products(const Kernels& table, const Kernels& expected) {
  Random random(1);
  const int64_t stride = planes_offset(kBlocks) + (kBlocks + 1) / 2 * kPlanePairBytes;
  std::vector<uint8_t> x_bytes(static_cast<size_t>(kRows * stride + 64)),
      work(static_cast<size_t>(table.product_work_bytes + 64));
  for (int64_t r = 0; r < kRows; ++r) {
    float values[kBlocks * kColumnBlock];
    for (float& value : values) value = static_cast<float>(random.uniform()) - 0.5f;
    table.quantize(values, kBlocks * kColumnBlock, aligned(x_bytes) + r * stride);
  }
  std::vector<float> scales(kPanels * kPanelRows, 0.01f), want(kRows * kPanels * kPanelRows), got = want;
  for (const Kind& kind : kKinds) {
    std::vector<uint8_t> panel(static_cast<size_t>(kPanels * kBlocks * kind.block + 64));
    for (int64_t b = 0; b < kPanels * kBlocks; ++b) kind.fill(random, aligned(panel) + b * kind.block);
    PanelTask task = {.panel = aligned(panel),
                      .panels = kPanels,
                      .panel_bytes = kBlocks * kind.block,
                      .scales = scales.data(),
                      .blocks = kBlocks,
                      .x = aligned(x_bytes),
                      .x_stride = stride,
                      .rows = kRows,
                      .out = got.data(),
                      .out_stride = kPanels * kPanelRows,
                      .add = false,
                      .work = aligned(work)};
    (table.*kind.product)(task);
    task.out = want.data();
    (expected.*kind.product)(task);
    if (std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

bool same_attention(const Kernels& table, const Kernels& expected) {
  constexpr int64_t kQueryRows = 21, kGroup = 2, kPositions = 70, kWidth = 64, kTileBytes = kWidth * 64;
  Random random(2);
  const auto number = [&] { return static_cast<float>(random.uniform()) * 4 - 2; };
  std::vector<uint8_t> tiles(3 * 2 * kTileBytes + 64);
  auto* const elements = reinterpret_cast<uint16_t*>(aligned(tiles));
  for (int64_t i = 0; i < 3 * kTileBytes; ++i) elements[i] = f32_to_bf16(number());
  std::vector<float> q(kQueryRows * kGroup * kWidth), work(kAttentionWorkFloats + 16), got(q.size()),
      want = got;
  for (float& value : q) value = number();
  const int32_t blocks[] = {2, 0, 1};
  AttentionTask task = {.q = q.data(),
                        .q_stride = kGroup * kWidth,
                        .out = got.data(),
                        .out_stride = kGroup * kWidth,
                        .rows = kQueryRows,
                        .group = kGroup,
                        .first_position = kPositions - kQueryRows,
                        .positions = kPositions,
                        .window = 0,
                        .causal = true,
                        .tiles = aligned(tiles),
                        .kv_type = KvType::bf16,
                        .key_bytes = kTileBytes,
                        .block_bytes = 2 * kTileBytes,
                        .block_table = blocks,
                        .key_dim = kWidth,
                        .key_width = kWidth,
                        .value_dim = kWidth,
                        .value_width = kWidth,
                        .scale = 0.125f,
                        .softcap = 0,
                        .sinks = nullptr,
                        .work = work.data()};
  table.attend(task);
  task.out = want.data();
  expected.attend(task);
  return std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0;
}

}  // namespace neutrino::compute::cpu
