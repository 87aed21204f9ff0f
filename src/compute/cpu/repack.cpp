#include "compute/cpu/repack.h"

#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "compute/integer_weights.h"

namespace neutrino::compute::cpu {
namespace {

// The lower four bits of 32 columns of row `r`.
void write_nibbles(const int32_t* q, int64_t r, uint8_t* block) {
  for (int64_t i = 0; i < 16; ++i)
    block[i / 4 * 64 + r * 4 + i % 4] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
}

void write_pair(int32_t e, int32_t f, int64_t r, uint8_t* pairs) {
  const int16_t ef[] = {static_cast<int16_t>(e), static_cast<int16_t>(f)};
  std::memcpy(pairs + r * 4, ef, sizeof ef);
}

void write_float(int32_t e, int64_t r, uint8_t* factors) {
  const auto value = static_cast<float>(e);
  std::memcpy(factors + r * 4, &value, sizeof value);
}

// One row of a section, as it goes into row `r` of its panel.
void write_nibble_row(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t b = 0; b < row.e.size(); ++b, panel += kNibbleBlockBytes) {
    write_nibbles(row.q.data() + b * kColumnBlock, r, panel);
    write_pair(row.e[b], row.f[b], r, panel + 256);
  }
}

void write_five_row(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t b = 0; b < row.e.size(); ++b, panel += kFiveBlockBytes) {
    const int32_t* q = row.q.data() + b * kColumnBlock;
    write_nibbles(q, r, panel);
    for (int64_t i = 0; i < kColumnBlock; ++i)
      panel[256 + r * 4 + i % 4] |= static_cast<uint8_t>(q[i] >> 4 << i / 4);
    write_pair(row.e[b], row.f[b], r, panel + 320);
  }
}

void write_six_row(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t run = 0; run < row.e.size(); ++run, panel += kSixBlocks * kSixBlockBytes) {
    for (int64_t b = 0; b < kSixBlocks; ++b) {
      const int32_t* q = row.q.data() + (static_cast<int64_t>(run) * kSixBlocks + b) * kColumnBlock;
      const int32_t* s = row.f.data() + (static_cast<int64_t>(run) * kSixBlocks + b) * 2;
      uint8_t* block = panel + b * kSixBits;
      write_nibbles(q, r, block);
      for (int64_t i = 0; i < kColumnBlock; ++i)
        block[256 + i / 16 * 64 + r * 4 + i % 4] |= static_cast<uint8_t>(q[i] >> 4 << i % 16 / 4 * 2);
      for (int64_t half = 0; half < 2; ++half)
        panel[kSixScalesAt + b * 32 + r * 2 + half] = static_cast<uint8_t>(s[half]);
    }
    write_float(row.e[run], r, panel + kSixFactorsAt);
  }
}

void write_code_row(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t b = 0; b < row.e.size(); ++b, panel += kCodeBlockBytes) {
    write_nibbles(row.q.data() + b * kColumnBlock, r, panel);
    write_float(row.e[b], r, panel + 256);
  }
}

void write_byte_row(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t b = 0; b < row.e.size(); ++b, panel += kByteBlockBytes) {
    const int32_t* q = row.q.data() + b * kColumnBlock;
    for (int64_t i = 0; i < kColumnBlock; ++i)
      panel[i / 4 * 64 + r * 4 + i % 4] = static_cast<uint8_t>(q[i] + 128);
    write_float(row.e[b], r, panel + 512);
  }
}

void write_word_row(const IntegerRow& row, int64_t r, uint8_t* panel) {
  auto* words = reinterpret_cast<int16_t*>(panel);
  for (size_t i = 0; i < row.q.size(); ++i)
    words[(i / 2 * kPanelRows + r) * 2 + i % 2] = static_cast<int16_t>(row.q[i]);
}

// What a kind of weights is in memory, and who multiplies it.
struct Layout {
  int64_t panel_step;  // bytes of 32 columns
  PanelProduct product;
  void (*write_row)(const IntegerRow& row, int64_t r, uint8_t* panel);  // null: float32
};

Layout layout_of(DType dtype, Arithmetic arithmetic, const Kernels& kernels) {
  if (arithmetic == Arithmetic::float32) return {kFloatBlockBytes, kernels.float_panels, nullptr};
  switch (weight_kind(dtype)) {
    case WeightKind::nibble: return {kNibbleBlockBytes, kernels.nibble_panels, write_nibble_row};
    case WeightKind::five: return {kFiveBlockBytes, kernels.five_panels, write_five_row};
    case WeightKind::six: return {kSixBlockBytes, kernels.six_panels, write_six_row};
    case WeightKind::code: return {kCodeBlockBytes, kernels.code_panels, write_code_row};
    case WeightKind::byte: return {kByteBlockBytes, kernels.byte_panels, write_byte_row};
    case WeightKind::word: return {kWordBlockBytes, kernels.word_panels, write_word_row};
  }
  return {};
}

// Padding rows and columns stay zero, as the memory came (where zero is not the zero of q, e is).
void pack_panel(const Section& section, int64_t panel, const Layout& layout, int64_t blocks, uint8_t* out,
                float* scales) {
  thread_local IntegerRow row;
  const int64_t stride = row_bytes(section.file.dtype, section.file.columns).value();
  for (int64_t r = 0; r < section.panel_rows(panel); ++r) {
    const std::byte* source = section.file.data + (panel * kPanelRows + r) * stride;
    if (layout.write_row == nullptr) {
      float* floats = reinterpret_cast<float*>(out) + r * blocks * kColumnBlock;
      dequantize_row(section.file.dtype, source, section.file.columns, floats);
      for (int64_t c = 0; c < section.file.columns; ++c) floats[c] *= section.file.scale;
      continue;
    }
    integer_row(section.file.dtype, source, section.file.columns, row);
    scales[r] = row.scale * section.file.scale;
    layout.write_row(row, r, out);
  }
}

int64_t total_rows(std::span<const WeightView> parts) {
  int64_t rows = 0;
  for (const WeightView& part : parts) rows += part.rows;
  return rows;
}

}  // namespace

PanelMatrix::PanelMatrix(std::span<const WeightView> parts, KeepFile keep, Arithmetic arithmetic,
                         const Kernels& kernels, ThreadTeam& team, WeightMemory& memory, WeightCache& cache)
    : Matrix(total_rows(parts), parts[0].columns), blocks_(ceil_div(columns_, kColumnBlock)) {
  int64_t first_row = 0, panels = 0;
  for (const WeightView& part : parts) {
    check(part.columns == columns_, "stacked matrices have the same number of columns");
    const Layout layout = layout_of(part.dtype, arithmetic, kernels);
    const int64_t bytes = blocks_ * layout.panel_step, count = ceil_div(part.rows, kPanelRows);
    sections_.push_back({.file = part,
                         .first_row = first_row,
                         .panels = count,
                         .panel_bytes = bytes,
                         .codebook = codebook_of(part.dtype),
                         .product = layout.product});
    first_row += part.rows, panels += count, bytes_ += bytes * count;
  }
  const int64_t scales_at = bytes_;
  if (arithmetic == Arithmetic::integer) bytes_ += panels * kPanelRows * static_cast<int64_t>(sizeof(float));
  data_ = memory.take(bytes_);
  uint8_t* next = data_.get();
  auto* scales = reinterpret_cast<float*>(next + scales_at);
  for (Section& section : sections_) {
    section.data = next;
    section.scales = arithmetic == Arithmetic::integer ? scales : nullptr;
    next += section.panels * section.panel_bytes, scales += section.panels * kPanelRows;
  }
  const uint64_t name = signature(arithmetic);
  if (!cache.read(name, {data_.get(), static_cast<size_t>(bytes_)}, team)) pack(arithmetic, kernels, team);
  cache.keep(name, data_, bytes_);
  for (Section& section : sections_)
    if (keep == KeepFile::no) section.file.data = nullptr, section.file.owner = nullptr;
}

void PanelMatrix::pack(Arithmetic arithmetic, const Kernels& kernels, ThreadTeam& team) {
  for (const Section& section : sections_) {
    const Layout layout = layout_of(section.file.dtype, arithmetic, kernels);
    auto* const panels = const_cast<uint8_t*>(section.data);
    auto* const scales = const_cast<float*>(section.scales);
    team.run(section.panels, [&](int64_t panel, int64_t) {
      pack_panel(section, panel, layout, blocks_, panels + panel * section.panel_bytes,
                 scales ? scales + panel * kPanelRows : nullptr);
    });
  }
}

// What decides the bytes, but for the weights themselves (FNV-1a).
uint64_t PanelMatrix::signature(Arithmetic arithmetic) const {
  uint64_t hash = 0xCBF29CE484222325;
  const auto add = [&](uint64_t value) {
    for (int i = 0; i < 8; ++i, value >>= 8) hash = (hash ^ (value & 255)) * 0x100000001B3;
  };
  add(kLayoutVersion), add(static_cast<uint64_t>(arithmetic)), add(static_cast<uint64_t>(columns_));
  for (const Section& section : sections_) {
    add(static_cast<uint64_t>(section.file.dtype)), add(static_cast<uint64_t>(section.file.rows));
    add(static_cast<uint64_t>(section.panel_bytes)), add(std::bit_cast<uint32_t>(section.file.scale));
  }
  return hash;
}

}  // namespace neutrino::compute::cpu
