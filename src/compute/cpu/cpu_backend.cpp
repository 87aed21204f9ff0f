// The backend for CPUs: one class, whose loops call the kernels of one table.
//
// An operation is cut into items (some panels of a matrix, some rows, one key/value head of some rows) that the thread team
// takes one by one. Which thread computes an item, and what stands beside it, never changes its bits.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/backend.h"
#include "compute/cpu/repack.h"
#include "compute/cpu/select.h"
#include "compute/cpu/thread_team.h"
#include "compute/paged_kv_cache.h"
#include "compute/scratch.h"

namespace neutrino::compute {
namespace cpu {
namespace {

constexpr int64_t kRowChunk = 96;        // activation rows that stay in the L2 cache while panels pass by
constexpr int64_t kGatePanels = 2;       // whose gates and ups are computed side by side
constexpr int64_t kRowsPerItem = 4;      // of operations on single rows
constexpr int64_t kQueriesPerItem = 16;  // rows of one sequence in an attention item

struct Floats {
  explicit Floats(int64_t count)
      : data(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(ceil_div(count * 4, 64) * 64)))) {
    if (!data) throw std::bad_alloc();
  }
  ~Floats() { std::free(data); }
  Floats(const Floats&) = delete;
  float* data;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const BackendOptions& options, int64_t threads);
  std::string_view name() const override { return name_; }
  Arithmetic arithmetic() const override { return arithmetic_; }
  int64_t threads() const override { return team_.size(); }

  std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) override {
    return std::make_unique<PanelMatrix>(parts, arithmetic_, kernels_, team_, weights_);
  }
  std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) override {
    check(gate.rows == up.rows, "gate and up have the same number of rows");
    const WeightView parts[] = {gate, up};
    return std::make_unique<PanelMatrix>(parts, arithmetic_, kernels_, team_, weights_);
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) override;
  // Twice what the caller counts: an operation's temporary is at most as large as its result.
  void reserve(int64_t scratch_bytes) override { scratch_.reserve(2 * scratch_bytes + kScratchSlack); }

  void begin_step() override { scratch_.release(0), set_float_mode(); }
  int64_t scratch_mark() const override { return scratch_.mark(); }
  void scratch_release(int64_t mark) override { scratch_.release(mark); }
  Tensor embed(const Matrix& table, std::span<const int32_t> tokens) override;
  Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) override;
  Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) override;
  Tensor matmul(const Activation& x, const Matrix& w) override;
  void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) override;
  Activation gated_matmul(const Activation& x, const Matrix& gate_up) override;
  void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape, const Batch& batch,
                      KvCache& cache, int64_t layer) override;
  Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                       const KvCache& cache, int64_t layer) override;
  void parallel_for(int64_t count, void (*fn)(void*, int64_t), void* context) override {
    team_.run(count, [=](int64_t i, int64_t) { fn(context, i); });
  }

 private:
  static constexpr int64_t kScratchSlack = 1 << 20;
  static constexpr int64_t kWorkFloats =
      std::max(kAttentionWorkFloats, 2 * kRowChunk * kGatePanels * kPanelRows);

  float* work(int64_t thread) const { return work_[thread]->data; }
  Activation make_activation(int64_t rows, int64_t columns);
  uint8_t* activation_row(const Activation& x, int64_t row) const {
    return reinterpret_cast<uint8_t*>(x.data) + row * x.row_bytes;
  }
  template <typename F>
  void for_rows(int64_t rows, F f);
  void quantize_rows(const Tensor& x, const Activation& out);
  void multiply_panels(const Activation& x, const PanelMatrix& w, Tensor& out, bool add);
  PanelTask panel_task(const Activation& x, const PanelMatrix& w, const Section& section, int64_t panel,
                       int64_t panels, int64_t row, int64_t rows) const;
  void multiply_last_panel(const Activation& x, const PanelMatrix& w, const Section& section, int64_t row,
                           int64_t rows, Tensor& out, bool add, float* tile);
  void gate_panels(const Activation& x, const PanelMatrix& w, int64_t panel, int64_t panels,
                   const Tensor& gated, float* tiles);
  template <typename F>
  void for_panels(int64_t panels, F f);

  Arithmetic arithmetic_;
  const Kernels& kernels_;
  std::string name_;
  ThreadTeam team_;
  WeightMemory weights_;
  Scratch scratch_;
  std::vector<std::unique_ptr<Floats>> work_;    // one a thread
  std::vector<std::unique_ptr<Floats>> scores_;  // one a thread: float32 attention, one float a position
  int64_t positions_ = 0;
};

CpuBackend::CpuBackend(const BackendOptions& options, int64_t threads)
    : arithmetic_(options.arithmetic),
      kernels_(select_kernels(options.isa)),
      name_(std::string("cpu/") + kernels_.name),
      team_(threads) {
  for (int64_t i = 0; i < threads; ++i) work_.push_back(std::make_unique<Floats>(kWorkFloats));
}

std::unique_ptr<KvCache> CpuBackend::make_kv_cache(const KvCacheShape& shape) {
  auto cache = std::make_unique<PagedKvCache>(shape, arithmetic_);
  if (arithmetic_ == Arithmetic::float32 && shape.blocks * kBlockPositions > positions_) {
    positions_ = shape.blocks * kBlockPositions;
    scores_.clear();
    for (int64_t i = 0; i < threads(); ++i) scores_.push_back(std::make_unique<Floats>(positions_));
  }
  return cache;
}

Activation CpuBackend::make_activation(int64_t rows, int64_t columns) {
  const int64_t blocks = ceil_div(columns, kColumnBlock);
  const int64_t block_bytes = arithmetic_ == Arithmetic::float32
                                  ? kColumnBlock * static_cast<int64_t>(sizeof(float))
                                  : static_cast<int64_t>(sizeof(XBlock) + kColumnBlock * sizeof(int16_t));
  const int64_t header =
      arithmetic_ == Arithmetic::float32 ? 0 : static_cast<int64_t>(sizeof(ActivationHeader));
  const int64_t bytes = ceil_div(header + blocks * block_bytes, 64) * 64;
  return {.data = scratch_.take(rows * bytes), .rows = rows, .columns = columns, .row_bytes = bytes};
}

// f(first, end, thread) over ranges of rows.
template <typename F>
void CpuBackend::for_rows(int64_t rows, F f) {
  team_.run(ceil_div(rows, kRowsPerItem), [&](int64_t item, int64_t thread) {
    f(item * kRowsPerItem, std::min(rows, (item + 1) * kRowsPerItem), thread);
  });
}

// f(first, end, thread) over ranges of panels: long ones first, which stream well, then ever shorter ones (of two panels in
// the end, for kernels take two at a time), so that the threads finish together.
template <typename F>
void CpuBackend::for_panels(int64_t panels, F f) {
  const auto range = [panels, threads = team_.size()](int64_t item) {
    int64_t first = 0, length = 0;
    for (int64_t i = 0; i <= item && first < panels; ++i) {
      first += length;
      if (i % threads == 0) length = std::max<int64_t>(2, (panels - first) / (2 * threads) / 2 * 2);
    }
    return std::pair(std::min(first, panels), std::min(first + length, panels));
  };
  int64_t items = 0;
  while (range(items).first < panels) ++items;
  team_.run(items, [&](int64_t item, int64_t thread) {
    const auto [first, end] = range(item);
    f(first, end, thread);
  });
}

Tensor CpuBackend::embed(const Matrix& table, std::span<const int32_t> tokens) {
  const WeightView& file = static_cast<const PanelMatrix&>(table).sections()[0].file;
  const int64_t stride = row_bytes(file.dtype, file.columns).value();
  const Tensor out = scratch_.tensor(static_cast<int64_t>(tokens.size()), table.columns());
  for_rows(out.rows, [&](int64_t first, int64_t end, int64_t) {
    for (int64_t r = first; r < end; ++r) {
      check(tokens[r] >= 0 && tokens[r] < file.rows, "token outside the embedding table");
      dequantize_row(file.dtype, file.data + tokens[r] * stride, file.columns, out.row(r));
    }
  });
  return out;
}

Tensor CpuBackend::select_rows(const Tensor& x, std::span<const int32_t> rows) {
  const Tensor out = scratch_.tensor(static_cast<int64_t>(rows.size()), x.columns);
  for (int64_t r = 0; r < out.rows; ++r) std::copy_n(x.row(rows[r]), out.columns, out.row(r));
  return out;
}

// A float32 activation row is padded with zeros up to whole blocks.
void pad_row(float* row, int64_t columns) {
  std::fill(row + columns, row + ceil_div(columns, kColumnBlock) * kColumnBlock, 0.0f);
}

Activation CpuBackend::rms_norm(const Tensor& x, std::span<const float> weight, float eps) {
  check(static_cast<int64_t>(weight.size()) == x.columns, "a norm has one weight a column");
  const Activation out = make_activation(x.rows, x.columns);
  const int64_t mark = scratch_.mark();
  const Tensor normed = scratch_.tensor(threads(), x.columns);
  for_rows(x.rows, [&](int64_t first, int64_t end, int64_t thread) {
    for (int64_t r = first; r < end; ++r) {
      uint8_t* row = activation_row(out, r);
      const bool direct = arithmetic_ == Arithmetic::float32;
      float* values = direct ? reinterpret_cast<float*>(row) : normed.row(thread);
      kernels_.rms_norm(x.row(r), weight.data(), eps, x.columns, values);
      direct ? pad_row(values, x.columns) : kernels_.quantize(values, x.columns, row);
    }
  });
  scratch_.release(mark);
  return out;
}

void CpuBackend::quantize_rows(const Tensor& x, const Activation& out) {
  for_rows(x.rows, [&](int64_t first, int64_t end, int64_t) {
    for (int64_t r = first; r < end; ++r) kernels_.quantize(x.row(r), x.columns, activation_row(out, r));
  });
}

Tensor CpuBackend::matmul(const Activation& x, const Matrix& w) {
  Tensor out = scratch_.tensor(x.rows, w.rows());
  multiply_panels(x, static_cast<const PanelMatrix&>(w), out, false);
  return out;
}

void CpuBackend::matmul_add(Tensor& sum, const Activation& x, const Matrix& w) {
  check(sum.rows == x.rows && sum.columns == w.rows(), "matmul_add: the sum has the product's shape");
  multiply_panels(x, static_cast<const PanelMatrix&>(w), sum, true);
}

void CpuBackend::multiply_panels(const Activation& x, const PanelMatrix& w, Tensor& out, bool add) {
  check(x.columns == w.columns(), "a product needs as many activations as the matrix has columns");
  for (const Section& section : w.sections()) {
    const int64_t whole = section.file.rows / kPanelRows;
    for_panels(section.panels, [&](int64_t first, int64_t end, int64_t thread) {
      for (int64_t row = 0; row < x.rows; row += kRowChunk) {
        const int64_t rows = std::min(kRowChunk, x.rows - row);
        PanelTask task = panel_task(x, w, section, first, std::min(end, whole) - first, row, rows);
        task.out = out.row(row) + section.first_row + first * kPanelRows;
        task.out_stride = out.stride;
        task.add = add;
        section.product(task);
        if (end > whole) multiply_last_panel(x, w, section, row, rows, out, add, work(thread));
      }
    });
  }
}

PanelTask CpuBackend::panel_task(const Activation& x, const PanelMatrix& w, const Section& section,
                                 int64_t panel, int64_t panels, int64_t row, int64_t rows) const {
  return {.panel = section.data + panel * section.panel_bytes,
          .panels = panels,
          .panel_bytes = section.panel_bytes,
          .scales = section.scales ? section.scales + panel * kPanelRows : nullptr,
          .blocks = w.blocks(),
          .x = activation_row(x, row),
          .x_stride = x.row_bytes,
          .rows = rows,
          .out = nullptr,
          .out_stride = 0,
          .add = false};
}

// A section's last panel, if it has fewer than 16 rows: by way of a tile of whole width.
void CpuBackend::multiply_last_panel(const Activation& x, const PanelMatrix& w, const Section& section,
                                     int64_t row, int64_t rows, Tensor& out, bool add, float* tile) {
  const int64_t panel = section.panels - 1, width = section.panel_rows(panel);
  PanelTask task = panel_task(x, w, section, panel, 1, row, rows);
  task.out = tile;
  task.out_stride = kPanelRows;
  section.product(task);
  for (int64_t r = 0; r < rows; ++r) {
    float* target = out.row(row + r) + section.first_row + panel * kPanelRows;
    for (int64_t c = 0; c < width; ++c)
      target[c] = add ? target[c] + tile[r * kPanelRows + c] : tile[r * kPanelRows + c];
  }
}

Activation CpuBackend::gated_matmul(const Activation& x, const Matrix& gate_up) {
  const auto& w = static_cast<const PanelMatrix&>(gate_up);
  check(x.columns == w.columns(), "a product needs as many activations as the matrix has columns");
  const int64_t columns = w.rows() / 2;
  const Activation out = make_activation(x.rows, columns);
  const bool direct = arithmetic_ == Arithmetic::float32;
  const int64_t mark = scratch_.mark();
  const Tensor gated = direct ? Tensor{.data = reinterpret_cast<float*>(out.data),
                                       .rows = x.rows,
                                       .columns = columns,
                                       .stride = out.row_bytes / static_cast<int64_t>(sizeof(float))}
                              : scratch_.tensor(x.rows, columns);
  for_panels(w.sections()[0].panels, [&](int64_t first, int64_t end, int64_t thread) {
    for (int64_t panel = first; panel < end; panel += kGatePanels)
      gate_panels(x, w, panel, std::min(kGatePanels, end - panel), gated, work(thread));
  });
  for (int64_t r = 0; direct && r < x.rows; ++r) pad_row(gated.row(r), columns);
  if (!direct) quantize_rows(gated, out);
  scratch_.release(mark);
  return out;
}

// silu(gate) * up for some panels: both products into tiles, then together.
void CpuBackend::gate_panels(const Activation& x, const PanelMatrix& w, int64_t panel, int64_t panels,
                             const Tensor& gated, float* tiles) {
  const int64_t stride = panels * kPanelRows, column = panel * kPanelRows;
  const int64_t width = std::min(stride, gated.columns - column);
  float* const ups = tiles + kRowChunk * stride;
  for (int64_t row = 0; row < x.rows; row += kRowChunk) {
    const int64_t rows = std::min(kRowChunk, x.rows - row);
    for (int64_t part = 0; part < 2; ++part) {
      PanelTask task = panel_task(x, w, w.sections()[part], panel, panels, row, rows);
      task.out = part == 0 ? tiles : ups;
      task.out_stride = stride;
      w.sections()[part].product(task);
    }
    kernels_.silu_product(tiles, ups, rows * stride, tiles);
    for (int64_t r = 0; r < rows; ++r) std::copy_n(tiles + r * stride, width, gated.row(row + r) + column);
  }
}

// Some rows of one sequence: the rows whose positions share a KV block, or a piece of an attention.
struct RowRange {
  const SequenceRows* sequence;
  int64_t first, rows;  // row first_row + first ... of the batch
};

// Cuts every sequence's rows where positions reach a multiple of `positions`.
std::span<RowRange> cut_rows(const Batch& batch, int64_t positions, Scratch& scratch) {
  int64_t count = 0;
  for (const SequenceRows& sequence : batch.sequences) count += sequence.rows / positions + 2;
  auto* ranges = reinterpret_cast<RowRange*>(scratch.take(count * static_cast<int64_t>(sizeof(RowRange))));
  count = 0;
  for (const SequenceRows& sequence : batch.sequences)
    for (int64_t first = 0; first < sequence.rows;) {
      const int64_t rows =
          std::min(sequence.rows - first, positions - (sequence.first_position + first) % positions);
      ranges[count++] = {.sequence = &sequence, .first = first, .rows = rows};
      first += rows;
    }
  return {ranges, static_cast<size_t>(count)};
}

void CpuBackend::rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape,
                                const Batch& batch, KvCache& cache, int64_t layer) {
  auto& paged = static_cast<PagedKvCache&>(cache);
  const int64_t heads = shape.num_attention_heads, kv_heads = shape.num_key_value_heads,
                head_dim = shape.head_dim;
  const int64_t pairs = rope.rotary_dim / 2, mark = scratch_.mark();
  // One thread writes a block's tiles: its first position zeroes them.
  const std::span<RowRange> ranges = cut_rows(batch, kBlockPositions, scratch_);
  const auto store = [&](const SequenceRows& sequence, int64_t row) {
    const int64_t position = sequence.first_position + row;
    check(position < rope.positions, "a position outside the rope table");
    float* values = qkv.row(sequence.first_row + row);
    for (int64_t h = 0; h < heads + kv_heads; ++h)
      kernels_.rotate({.head = values + h * head_dim,
                       .cosine = rope.cosine.data() + position * pairs,
                       .sine = rope.sine.data() + position * pairs,
                       .pairs = pairs,
                       .adjacent = rope.pairs == RopePairs::adjacent});
    const int32_t block = sequence.block_table[position / kBlockPositions];
    for (int64_t h = 0; h < kv_heads; ++h) {
      const float *key = values + (heads + h) * head_dim, *value = key + kv_heads * head_dim;
      if (arithmetic_ == Arithmetic::float32) {
        paged.store(layer, h, block, position % kBlockPositions, key, value);
        continue;
      }
      uint16_t k[kHeadDimMax], v[kHeadDimMax];
      kernels_.round_bf16(key, head_dim, k);
      kernels_.round_bf16(value, head_dim, v);
      paged.store(layer, h, block, position % kBlockPositions, k, v);
    }
  };
  team_.run(static_cast<int64_t>(ranges.size()), [&](int64_t item, int64_t) {
    const RowRange& range = ranges[item];
    for (int64_t r = 0; r < range.rows; ++r) store(*range.sequence, range.first + r);
  });
  scratch_.release(mark);
}

Activation CpuBackend::attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                 const KvCache& cache, int64_t layer) {
  const auto& paged = static_cast<const PagedKvCache&>(cache);
  const bool direct = arithmetic_ == Arithmetic::float32;
  const int64_t kv_heads = shape.num_key_value_heads, group = shape.num_attention_heads / kv_heads;
  const Activation out = make_activation(qkv.rows, shape.num_attention_heads * shape.head_dim);
  const int64_t mark = scratch_.mark();
  const Tensor sums = direct ? Tensor{.data = reinterpret_cast<float*>(out.data),
                                      .rows = out.rows,
                                      .columns = out.columns,
                                      .stride = out.row_bytes / static_cast<int64_t>(sizeof(float))}
                             : scratch_.tensor(out.rows, out.columns);
  const std::span<RowRange> ranges = cut_rows(batch, kQueriesPerItem, scratch_);
  team_.run(static_cast<int64_t>(ranges.size()) * kv_heads, [&](int64_t item, int64_t thread) {
    const RowRange& range = ranges[item / kv_heads];
    const int64_t head = item % kv_heads, row = range.sequence->first_row + range.first;
    const int64_t column = head * group * shape.head_dim;
    (direct ? kernels_.attend_float : kernels_.attend)({
        .q = qkv.row(row) + column,
        .q_stride = qkv.stride,
        .out = sums.row(row) + column,
        .out_stride = sums.stride,
        .rows = range.rows,
        .group = group,
        .first_position = range.sequence->first_position + range.first,
        .tiles = reinterpret_cast<const uint8_t*>(paged.tiles(layer, head)),
        .block_bytes = paged.block_bytes(),
        .block_table = range.sequence->block_table.data(),
        .head_dim = shape.head_dim,
        .padded_head_dim = paged.padded_head_dim(),
        .scale = shape.scale,
        .work = direct ? scores_[thread]->data : work(thread),
    });
  });
  for (int64_t r = 0; direct && r < out.rows; ++r) pad_row(sums.row(r), out.columns);
  if (!direct) quantize_rows(sums, out);
  scratch_.release(mark);
  return out;
}

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  return std::make_unique<cpu::CpuBackend>(options, options.threads > 0 ? options.threads : cores);
}

}  // namespace neutrino::compute
