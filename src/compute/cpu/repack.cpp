#include "compute/cpu/repack.h"

#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "compute/integer_weights.h"

namespace neutrino::compute::cpu {
namespace {

// One row of a section, as it goes into row `r` of its panel.
void write_nibbles(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t b = 0; b < row.e.size(); ++b, panel += kNibbleBlockBytes) {
    const int32_t* q = row.q.data() + b * kColumnBlock;
    for (int64_t i = 0; i < 16; ++i)
      panel[i / 4 * 64 + r * 4 + i % 4] = static_cast<uint8_t>(q[i] | q[i + 16] << 4);
    const int16_t ef[] = {static_cast<int16_t>(row.e[b]), static_cast<int16_t>(row.f[b])};
    std::memcpy(panel + 256 + r * sizeof ef, ef, sizeof ef);
  }
}

void write_bytes(const IntegerRow& row, int64_t r, uint8_t* panel) {
  for (size_t b = 0; b < row.e.size(); ++b, panel += kByteBlockBytes) {
    const int32_t* q = row.q.data() + b * kColumnBlock;
    for (int64_t i = 0; i < kColumnBlock; ++i)
      panel[i / 4 * 64 + r * 4 + i % 4] = static_cast<uint8_t>(q[i] + 128);
    const auto e = static_cast<float>(row.e[b]);
    std::memcpy(panel + 512 + r * sizeof e, &e, sizeof e);
  }
}

void write_words(const IntegerRow& row, int64_t r, uint8_t* panel) {
  auto* words = reinterpret_cast<int16_t*>(panel);
  for (size_t i = 0; i < row.q.size(); ++i)
    words[(i / 2 * kPanelRows + r) * 2 + i % 2] = static_cast<int16_t>(row.q[i]);
}

int64_t block_bytes(DType dtype, Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::float32) return kFloatBlockBytes;
  switch (weight_kind(dtype)) {
    case WeightKind::nibble: return kNibbleBlockBytes;
    case WeightKind::byte: return kByteBlockBytes;
    case WeightKind::word: return kWordBlockBytes;
  }
  return 0;
}

PanelProduct product_of(DType dtype, Arithmetic arithmetic, const Kernels& kernels) {
  if (arithmetic == Arithmetic::float32) return kernels.float_panels;
  switch (weight_kind(dtype)) {
    case WeightKind::nibble: return kernels.nibble_panels;
    case WeightKind::byte: return kernels.byte_panels;
    case WeightKind::word: return kernels.word_panels;
  }
  return nullptr;
}

// Padding rows and columns stay zero, as the memory came (a byte's zero is 128, but its e is zero).
void pack_panel(const Section& section, int64_t panel, Arithmetic arithmetic, int64_t blocks, uint8_t* out,
                float* scales) {
  thread_local IntegerRow row;
  const int64_t stride = row_bytes(section.file.dtype, section.file.columns).value();
  for (int64_t r = 0; r < section.panel_rows(panel); ++r) {
    const std::byte* source = section.file.data + (panel * kPanelRows + r) * stride;
    if (arithmetic == Arithmetic::float32) {
      float* floats = reinterpret_cast<float*>(out) + r * blocks * kColumnBlock;
      dequantize_row(section.file.dtype, source, section.file.columns, floats);
      for (int64_t c = 0; c < section.file.columns; ++c) floats[c] *= section.file.scale;
      continue;
    }
    integer_row(section.file.dtype, source, section.file.columns, row);
    scales[r] = row.scale * section.file.scale;
    switch (weight_kind(section.file.dtype)) {
      case WeightKind::nibble: write_nibbles(row, r, out); break;
      case WeightKind::byte: write_bytes(row, r, out); break;
      case WeightKind::word: write_words(row, r, out); break;
    }
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
    const int64_t bytes = blocks_ * block_bytes(part.dtype, arithmetic),
                  count = ceil_div(part.rows, kPanelRows);
    sections_.push_back({.file = part,
                         .first_row = first_row,
                         .panels = count,
                         .panel_bytes = bytes,
                         .product = product_of(part.dtype, arithmetic, kernels)});
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
  if (!cache.read(name, {data_.get(), static_cast<size_t>(bytes_)}, team)) pack(arithmetic, team);
  cache.keep(name, data_, bytes_);
  for (Section& section : sections_)
    if (keep == KeepFile::no) section.file.data = nullptr, section.file.owner = nullptr;
}

void PanelMatrix::pack(Arithmetic arithmetic, ThreadTeam& team) {
  for (const Section& section : sections_) {
    auto* const panels = const_cast<uint8_t*>(section.data);
    auto* const scales = const_cast<float*>(section.scales);
    team.run(section.panels, [&](int64_t panel, int64_t) {
      pack_panel(section, panel, arithmetic, blocks_, panels + panel * section.panel_bytes,
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
