// The backend for CPUs: one class, whose loops call the kernels of one table.
//
// An operation is cut into items (some panels of a matrix, some rows, query heads of one key/value head in some rows) that the thread
// team takes one by one. Which thread computes an item, and what stands beside it, never changes its bits.
//
// What goes row by row in front of a product or of attention (norms, quantisation, rotation) is not run at once: it becomes a
// phase of the operation that reads it, so that the threads are called together once for both (later(), fork()).

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/attention_query.h"
#include "compute/cpu/cpu_backend.h"
#include "compute/cpu/repack.h"
#include "compute/cpu/row_ranges.h"
#include "compute/cpu/select.h"
#include "compute/cpu/thread_team.h"
#include "compute/cpu/updates.h"
#include "compute/host_backend.h"

namespace neutrino::compute {
namespace cpu {
namespace {

constexpr int64_t kRowTiles = 12;         // rows that every table's tiles divide
constexpr int64_t kGatePanels = 2;        // whose gates and ups are computed side by side
constexpr int64_t kAttentionRowsMin = 8;  // rows of one sequence in an attention item, where it has so many
constexpr int64_t kSiblingsMax = 32;      // of such a group, its first included

struct Floats {
  explicit Floats(int64_t count)
      : data(static_cast<float*>(std::aligned_alloc(
            64, static_cast<size_t>(ceil_div(std::max<int64_t>(count, 1) * 4, 64) * 64)))) {
    if (!data) throw std::bad_alloc();
  }
  ~Floats() { std::free(data); }
  Floats(const Floats&) = delete;
  float* data;
};

class CpuBackend final : public HostBackend {
 public:
  CpuBackend(const BackendOptions& options, const Kernels& kernels, int64_t threads);
  std::string_view name() const override { return name_; }
  int64_t threads() const override { return team_.size(); }

  std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) override {
    return named(
        std::make_unique<PanelMatrix>(parts, KeepFile::no, arithmetic_, kernels_, team_, weights_, cache_),
        parts);
  }
  std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) override {
    check(gate.rows == up.rows, "gate and up have the same number of rows");
    const WeightView parts[] = {gate, up};
    return load_matrix(parts);
  }
  std::unique_ptr<Matrix> load_embedding(const WeightView& table) override {
    return std::make_unique<PanelMatrix>(std::span(&table, 1), KeepFile::yes, arithmetic_, kernels_, team_,
                                         weights_, cache_);
  }
  void loaded() override { cache_.write(); }
  std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) override;

  void begin_step(const Batch& batch) override {
    later_count_ = 0;  // of a step that ended early
    HostBackend::begin_step(batch);
  }
  void scratch_release(int64_t mark) override {
    flush();
    HostBackend::scratch_release(mark);
  }
  Tensor embed(const Matrix& table, std::span<const int32_t> tokens) override;
  Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) override {
    flush();
    return HostBackend::select_rows(x, rows);
  }
  Batch narrow(const Batch& batch, std::span<Tensor* const> tensors) override {
    if (std::ssize(batch.output_rows) < tensors[0]->rows) flush();
    return HostBackend::narrow(batch, tensors);
  }
  Tensor zeros(int64_t rows, int64_t columns) override {
    flush();
    return HostBackend::zeros(rows, columns);
  }
  Activation activation(const Tensor& x) override;
  Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) override;
  void rms_normalize(const Tensor& x, std::span<const float> weight, float eps) override;
  void matmul_into(const Tensor& out, const Activation& x, const Matrix& w) override;
  void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) override;
  Activation gated_matmul(const Activation& x, const Matrix& gate_up, Function function) override;
  void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape, const Batch& batch,
                      KvCache& cache, int64_t layer) override;
  Tensor attention_values(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                          const KvCache& cache, int64_t layer) override;
  Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                       const KvCache& cache, int64_t layer) override;
  void parallel_for(int64_t count, void (*fn)(void*, int64_t), void* context) override {
    flush();
    team_.run(count, [=](int64_t i, int64_t) { fn(context, i); });
  }
  int64_t forks() const { return team_.forks(); }
  int64_t block_reads() const { return block_reads_; }

 private:
  // An operation on rows that waits for the one that reads it.
  struct Later {
    static constexpr size_t kBytes = 448;
    alignas(16) std::byte function[kBytes];
    ThreadTeam::Phase phase;
  };
  // f(item, thread) for each item, before anything that is run after this call. One item is run at once, on the caller, if
  // nothing waits. What f refers to, scratch included, must last until the operation that reads its results.
  template <typename F>
  void later(int64_t items, F f);
  // f(item, thread) for each item, behind what waits.
  template <typename F>
  void fork(int64_t items, F f);
  void flush() {
    if (later_count_ > 0) fork(0, [](int64_t, int64_t) {});
  }

  float* work(int64_t thread) const { return work_[thread]->data; }
  Activation make_activation(int64_t rows, int64_t columns) override;
  void write_activation(const Activation& out, int64_t row, const float* values) const override;
  void rms_norm_values(const float* x, const float* weight, float eps, int64_t n, float* out) const override {
    kernels_.rms_norm(x, weight, eps, n, out);
  }
  void layer_norm_values(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                         float* out) const override {
    kernels_.layer_norm(x, weight, bias, eps, n, out);
  }
  void apply_values(Function function, float* x, int64_t n) const override { kernels_.apply(function, x, n); }
  void gate_values(Function function, const float* gate, const float* up, int64_t n,
                   float* out) const override {
    kernels_.gate(function, gate, up, n, out);
  }
  void softcap_values(float* x, float cap, int64_t n) const override { kernels_.softcap(x, cap, n); }
  void decay_state(const StateTask& task, float decay, const float* k, float* y) const override {
    kernels_.decay_state(task, decay, k, y);
  }
  void update_state(const StateTask& task, const float* k, const float* u, const float* q,
                    float* y) const override {
    kernels_.update_state(task, k, u, q, y);
  }
  void scan_state(const StateTask& task, const ScanInput& input, float* y) const override {
    kernels_.scan_state(task, input, y);
  }
  Tensor float_rows(const Activation& x) const;
  int64_t rows_at_once(int64_t rows) const;
  uint8_t* activation_row(const Activation& x, int64_t row) const {
    return reinterpret_cast<uint8_t*>(x.data) + row * x.row_bytes;
  }
  void quantize_later(const Tensor& x, const Activation& out);
  void attend_rows(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                   const PagedKvCache& cache, int64_t layer, const Tensor& out);
  Updates updates_later(const Activation& x, const Matrix& w);
  void multiply_panels(const Activation& x, const PanelMatrix& w, const Tensor& out, bool add);
  void multiply_section(const Activation& x, const PanelMatrix& w, const Section& section, int64_t first,
                        int64_t end, const Tensor& out, bool add, int64_t thread);
  PanelTask panel_task(const Activation& x, const PanelMatrix& w, const Section& section, int64_t panel,
                       int64_t panels, int64_t row, int64_t rows, int64_t thread) const;
  void multiply_last_panel(const Activation& x, const PanelMatrix& w, const Section& section, int64_t row,
                           int64_t rows, const Tensor& out, bool add, int64_t thread);
  void gate_panels(const Activation& x, const PanelMatrix& w, Updates updates, int64_t panel, int64_t panels,
                   Function function, const Tensor& gated, int64_t thread);
  template <typename F>
  void for_panels(int64_t panels, F f);

  const Kernels& kernels_;
  std::string name_;
  ThreadTeam team_;
  WeightMemory weights_;
  WeightCache cache_;
  std::vector<std::unique_ptr<Floats>> work_;          // one a thread
  std::vector<std::unique_ptr<Floats>> product_work_;  // one a thread: PanelTask::work
  int64_t block_reads_ = 0;                            // see cpu::block_reads()
  std::vector<std::unique_ptr<Floats>> scores_;  // one a thread: float32 attention, one float a position
  int64_t positions_ = 0;
  std::array<Later, ThreadTeam::kPhases - 1> later_;
  size_t later_count_ = 0;
};

CpuBackend::CpuBackend(const BackendOptions& options, const Kernels& kernels, int64_t threads)
    : HostBackend(options.arithmetic),
      kernels_(kernels),
      name_(std::string("cpu/") + kernels_.name),
      team_(threads),
      cache_(options.arithmetic == Arithmetic::integer ? options.weight_cache : std::filesystem::path()) {
  check(kernels.product_rows % kRowTiles == 0, "a table takes a multiple of the rows of every tile");
  const int64_t product_floats = kernels.product_work_bytes / static_cast<int64_t>(sizeof(float));
  const int64_t tile_floats = 2 * kernels.product_rows * kGatePanels * kPanelRows;
  for (int64_t i = 0; i < threads; ++i) {
    work_.push_back(std::make_unique<Floats>(std::max(kAttentionWorkFloats, tile_floats)));
    product_work_.push_back(std::make_unique<Floats>(product_floats));
  }
}

std::unique_ptr<KvCache> CpuBackend::make_kv_cache(const KvCacheShape& shape) {
  auto cache = std::make_unique<PagedKvCache>(shape, arithmetic_);
  const int64_t positions = std::max(shape.blocks, shape.window_blocks) * kBlockPositions;
  if (arithmetic_ == Arithmetic::float32 && positions > positions_) {
    positions_ = positions;
    scores_.clear();
    for (int64_t i = 0; i < threads(); ++i) scores_.push_back(std::make_unique<Floats>(positions_));
  }
  return cache;
}

Activation CpuBackend::make_activation(int64_t rows, int64_t columns) {
  const int64_t blocks = ceil_div(columns, kColumnBlock);
  int64_t bytes = blocks * kColumnBlock * static_cast<int64_t>(sizeof(float));
  if (arithmetic_ == Arithmetic::integer) {
    bytes = planes_offset(blocks);
    // An odd number of cache lines: the rows of a tile lie in different sets of the cache.
    if (kernels_.planes) bytes = (bytes + ceil_div(blocks, 2) * kPlanePairBytes) | 64;
  }
  return {.data = scratch_.take(rows * bytes), .rows = rows, .columns = columns, .row_bytes = bytes};
}

// A float32 activation row is padded with zeros up to whole blocks.
void pad_row(float* row, int64_t columns) {
  std::fill(row + columns, row + ceil_div(columns, kColumnBlock) * kColumnBlock, 0.0f);
}

void CpuBackend::write_activation(const Activation& out, int64_t row, const float* values) const {
  if (arithmetic_ == Arithmetic::integer)
    return kernels_.quantize(values, out.columns, activation_row(out, row));
  auto* floats = reinterpret_cast<float*>(activation_row(out, row));
  std::copy_n(values, out.columns, floats);
  pad_row(floats, out.columns);
}

// A float32 activation's rows as a tensor, for operations that write there directly.
Tensor CpuBackend::float_rows(const Activation& x) const {
  return {.data = reinterpret_cast<float*>(x.data),
          .rows = x.rows,
          .columns = x.columns,
          .stride = x.row_bytes / static_cast<int64_t>(sizeof(float))};
}

template <typename F>
void CpuBackend::later(int64_t items, F f) {
  static_assert(std::is_trivially_copyable_v<F> && sizeof(F) <= Later::kBytes && alignof(F) <= 16);
  if (items <= 1 && later_count_ == 0) {
    if (items == 1) f(0, 0);
    return;
  }
  if (later_count_ == later_.size()) flush();
  Later& entry = later_[later_count_++];
  entry.phase = ThreadTeam::phase(items, *new (entry.function) F(f));
}

template <typename F>
void CpuBackend::fork(int64_t items, F f) {
  std::array<ThreadTeam::Phase, ThreadTeam::kPhases> phases;
  size_t count = 0;
  for (; count < later_count_; ++count) phases[count] = later_[count].phase;
  phases[count++] = ThreadTeam::phase(items, f);
  later_count_ = 0;
  team_.run(std::span(phases).first(count));
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
  fork(items, [&](int64_t item, int64_t thread) {
    const auto [first, end] = range(item);
    f(first, end, thread);
  });
}

Tensor CpuBackend::embed(const Matrix& table, std::span<const int32_t> tokens) {
  const WeightView& file = static_cast<const PanelMatrix&>(table).sections()[0].file;
  check(file.data != nullptr, "embed needs a matrix of load_embedding()");
  const int64_t stride = row_bytes(file.dtype, file.columns).value();
  const Tensor out = scratch_.tensor(static_cast<int64_t>(tokens.size()), table.columns());
  for_rows(out.rows, [&](int64_t r) {
    check(tokens[r] >= 0 && tokens[r] < file.rows, "token outside the embedding table");
    dequantize_row(file.dtype, file.data + tokens[r] * stride, file.columns, out.row(r));
    for (int64_t c = 0; c < out.columns && file.scale != 1; ++c) out.row(r)[c] *= file.scale;
  });
  return out;
}

Activation CpuBackend::rms_norm(const Tensor& x, std::span<const float> weight, float eps) {
  check(static_cast<int64_t>(weight.size()) == x.columns, "a norm has one weight a column");
  const Activation out = make_activation(x.rows, x.columns);
  const int64_t rows = cheap_rows_per_item(x.columns), items = ceil_div(x.rows, rows);
  const Tensor normed = scratch_.tensor(items, x.columns);  // until the scope ends: see later()
  later(items, [=, this](int64_t item, int64_t) {
    for (int64_t r = item * rows; r < std::min(x.rows, (item + 1) * rows); ++r) {
      uint8_t* row = activation_row(out, r);
      const bool direct = arithmetic_ == Arithmetic::float32;
      float* values = direct ? reinterpret_cast<float*>(row) : normed.row(item);
      kernels_.rms_norm(x.row(r), weight.data(), eps, x.columns, values);
      direct ? pad_row(values, x.columns) : kernels_.quantize(values, x.columns, row);
    }
  });
  return out;
}

Activation CpuBackend::activation(const Tensor& x) {
  const Activation out = make_activation(x.rows, x.columns);
  quantize_later(x, out);
  return out;
}

void CpuBackend::quantize_later(const Tensor& x, const Activation& out) {
  const int64_t rows = cheap_rows_per_item(x.columns);
  later(ceil_div(x.rows, rows), [=, this](int64_t item, int64_t) {
    for (int64_t r = item * rows; r < std::min(x.rows, (item + 1) * rows); ++r)
      write_activation(out, r, x.row(r));
  });
}

// Some columns of a tensor (the queries, the keys) are read by the operation on the whole of it, so they can wait for that one;
// a whole tensor may be what a step returns.
void CpuBackend::rms_normalize(const Tensor& x, std::span<const float> weight, float eps) {
  if (x.columns == x.stride) return HostBackend::rms_normalize(x, weight, eps);
  const auto width = static_cast<int64_t>(weight.size());
  check(width > 0 && x.columns % width == 0, "a norm's weights cover the columns a whole number of times");
  const int64_t rows = cheap_rows_per_item(x.columns);
  later(ceil_div(x.rows, rows), [=, this](int64_t item, int64_t) {
    for (int64_t r = item * rows; r < std::min(x.rows, (item + 1) * rows); ++r)
      for (int64_t c = 0; c < x.columns; c += width)
        kernels_.rms_norm(x.row(r) + c, weight.data(), eps, width, x.row(r) + c);
  });
}

void CpuBackend::matmul_into(const Tensor& out, const Activation& x, const Matrix& w) {
  check(out.rows == x.rows && out.columns == w.rows(), "matmul_into: the result has the product's shape");
  multiply_panels(x, static_cast<const PanelMatrix&>(w), out, false);
}

void CpuBackend::matmul_add(Tensor& sum, const Activation& x, const Matrix& w) {
  check(sum.rows == x.rows && sum.columns == w.rows(), "matmul_add: the sum has the product's shape");
  multiply_panels(x, static_cast<const PanelMatrix&>(w), sum, true);
}

void CpuBackend::multiply_panels(const Activation& x, const PanelMatrix& w, const Tensor& out, bool add) {
  check(x.columns == w.columns(), "a product needs as many activations as the matrix has columns");
  if (x.rows == 0) return;
  int64_t panels = 0;
  for (const Section& section : w.sections()) panels += section.panels;
  const int64_t mark = scratch_.mark();
  const Updates updates = updates_later(x, w);
  for_panels(panels, [&](int64_t first, int64_t end, int64_t thread) {
    int64_t before = 0;
    for (const Section& section : w.sections()) {  // the range's part of each
      const int64_t to = std::min(end - before, section.panels);
      const int64_t from = std::max<int64_t>(first - before, 0);
      if (from < to) {
        const auto index = static_cast<size_t>(&section - w.sections().data());
        prefetch_update(updates, index, from);
        multiply_section(x, w, section, from, to, out, add, thread);
        add_updates(kernels_, updates, index, from, to, out);
      }
      before += section.panels;
    }
  });
  scratch_.release(mark);
}

// Adapters: h = A x goes in front of the product, B h is added panel by panel by whoever computed the panel.
Updates CpuBackend::updates_later(const Activation& x, const Matrix& w) {
  const Updates updates = plan_updates(adapter_rows(), x, w, scratch_);
  if (updates.empty()) return {};
  later(update_items(updates), [=, this](int64_t item, int64_t) { reduce_item(kernels_, x, updates, item); });
  return updates;
}

// How many of a product's rows a kernel takes at once: pieces of about the same length, for each unpacks the weights anew.
int64_t CpuBackend::rows_at_once(int64_t rows) const {
  const int64_t pieces = ceil_div(std::max<int64_t>(rows, 1), kernels_.product_rows);
  return ceil_div(rows, pieces * kRowTiles) * kRowTiles;
}

// The panels [first, end) of one section.
void CpuBackend::multiply_section(const Activation& x, const PanelMatrix& w, const Section& section,
                                  int64_t first, int64_t end, const Tensor& out, bool add, int64_t thread) {
  const int64_t whole = section.file.rows / kPanelRows, step = rows_at_once(x.rows);
  for (int64_t row = 0; row < x.rows; row += step) {
    const int64_t rows = std::min(step, x.rows - row);
    PanelTask task = panel_task(x, w, section, first, std::min(end, whole) - first, row, rows, thread);
    task.out = out.row(row) + section.first_row + first * kPanelRows;
    task.out_stride = out.stride;
    task.add = add;
    section.product(task);
    if (end > whole) multiply_last_panel(x, w, section, row, rows, out, add, thread);
  }
}

PanelTask CpuBackend::panel_task(const Activation& x, const PanelMatrix& w, const Section& section,
                                 int64_t panel, int64_t panels, int64_t row, int64_t rows,
                                 int64_t thread) const {
  return {.panel = section.data + panel * section.panel_bytes,
          .panels = panels,
          .panel_bytes = section.panel_bytes,
          .scales = section.scales ? section.scales + panel * kPanelRows : nullptr,
          .codebook = section.codebook,
          .blocks = w.blocks(),
          .x = activation_row(x, row),
          .x_stride = x.row_bytes,
          .rows = rows,
          .out = nullptr,
          .out_stride = 0,
          .add = false,
          .work = reinterpret_cast<uint8_t*>(product_work_[thread]->data)};
}

// A section's last panel, if it has fewer than 16 rows: by way of a tile of whole width.
void CpuBackend::multiply_last_panel(const Activation& x, const PanelMatrix& w, const Section& section,
                                     int64_t row, int64_t rows, const Tensor& out, bool add, int64_t thread) {
  const int64_t panel = section.panels - 1, width = section.panel_rows(panel);
  PanelTask task = panel_task(x, w, section, panel, 1, row, rows, thread);
  float* const tile = work(thread);
  task.out = tile;
  task.out_stride = kPanelRows;
  section.product(task);
  for (int64_t r = 0; r < rows; ++r) {
    float* target = out.row(row + r) + section.first_row + panel * kPanelRows;
    for (int64_t c = 0; c < width; ++c)
      target[c] = add ? target[c] + tile[r * kPanelRows + c] : tile[r * kPanelRows + c];
  }
}

Activation CpuBackend::gated_matmul(const Activation& x, const Matrix& gate_up, Function function) {
  const auto& w = static_cast<const PanelMatrix&>(gate_up);
  check(x.columns == w.columns(), "a product needs as many activations as the matrix has columns");
  const int64_t columns = w.rows() / 2;
  const Activation out = make_activation(x.rows, columns);
  if (x.rows == 0) return out;
  const bool direct = arithmetic_ == Arithmetic::float32;
  const Tensor gated = direct ? float_rows(out) : scratch_.tensor(x.rows, columns);
  const int64_t mark = scratch_.mark();
  const Updates updates = updates_later(x, w);
  const int64_t piece = kGatePanels * (kernels_.product_rows / rows_at_once(x.rows));
  for_panels(w.sections()[0].panels, [&](int64_t first, int64_t end, int64_t thread) {
    for (int64_t panel = first; panel < end; panel += piece)
      gate_panels(x, w, updates, panel, std::min(piece, end - panel), function, gated, thread);
  });
  scratch_.release(mark);
  for (int64_t r = 0; direct && r < x.rows; ++r) pad_row(gated.row(r), columns);
  if (!direct) quantize_later(gated, out);
  return out;
}

// f(gate) * up for some panels: both products into tiles, then together.
void CpuBackend::gate_panels(const Activation& x, const PanelMatrix& w, Updates updates, int64_t panel,
                             int64_t panels, Function function, const Tensor& gated, int64_t thread) {
  const int64_t stride = panels * kPanelRows, column = panel * kPanelRows;
  const int64_t width = std::min(stride, gated.columns - column), step = rows_at_once(x.rows);
  float *const tiles = work(thread), *const ups = tiles + step * stride;
  for (int64_t row = 0; row < x.rows; row += step) {
    const int64_t rows = std::min(step, x.rows - row);
    for (int64_t part = 0; part < 2; ++part) {
      PanelTask task = panel_task(x, w, w.sections()[part], panel, panels, row, rows, thread);
      task.out = part == 0 ? tiles : ups;
      task.out_stride = stride;
      prefetch_update(updates, static_cast<size_t>(part), panel);
      w.sections()[part].product(task);
      add_gate_updates(kernels_, updates, static_cast<size_t>(part), panel, panels, row, rows, task.out,
                       stride);
    }
    for (int64_t r = 0; r < rows; ++r)
      kernels_.gate(function, tiles + r * stride, ups + r * stride, width, gated.row(row + r) + column);
  }
}

void CpuBackend::rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape,
                                const Batch& batch, KvCache& cache, int64_t layer) {
  auto& paged = static_cast<PagedKvCache&>(cache);
  const int64_t heads = shape.num_attention_heads, kv_heads = shape.num_key_value_heads,
                head_dim = shape.head_dim;
  check_shapes(qkv, shape, paged, layer);
  const int64_t pairs = rope.rotary_dim / 2, width = value_dim(shape);
  // One thread writes a block's tiles: its first position zeroes them.
  const std::span<RowRange> ranges = cut_rows(batch, kBlockPositions, scratch_);
  const auto store = [=, this, &paged](const SequenceRows& sequence, int64_t row) {
    const int64_t position = sequence.first_position + row;
    check(pairs == 0 || position < rope.positions, "a position outside the rope table");
    float* values = qkv.row(sequence.first_row + row);
    for (int64_t h = 0; h < heads + kv_heads && pairs > 0; ++h)
      kernels_.rotate({.head = values + h * head_dim,
                       .cosine = rope.cosine.data() + position * pairs,
                       .sine = rope.sine.data() + position * pairs,
                       .pairs = pairs,
                       .adjacent = rope.pairs == RopePairs::adjacent});
    const int32_t block = block_table(sequence, paged.layer(layer))[position / kBlockPositions];
    uint16_t k[kHeadDimMax], v[kHeadDimMax];
    for (int64_t h = 0; h < kv_heads; ++h) {
      const float *key = values + (heads + h) * head_dim,
                  *value = values + (heads + kv_heads) * head_dim + h * width;
      if (!paged.has_bf16()) {
        paged.store(layer, h, block, position % kBlockPositions, key, value);
        continue;
      }
      kernels_.round_bf16(key, head_dim, k);
      kernels_.round_bf16(value, width, v);
      paged.store(layer, h, block, position % kBlockPositions, k, v);
    }
  };
  later(static_cast<int64_t>(ranges.size()), [=](int64_t item, int64_t) {
    const RowRange& range = ranges[item];
    for (int64_t r = 0; r < range.rows; ++r) store(*range.sequence, range.first + r);
  });
}

void CpuBackend::attend_rows(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                             const PagedKvCache& cache, int64_t layer, const Tensor& out) {
  check_shapes(qkv, shape, cache, layer);
  if (qkv.rows == 0) return;
  const KvTiles& place = cache.layer(layer);
  const int64_t kv_heads = shape.num_key_value_heads, group = shape.num_attention_heads / kv_heads;
  const int64_t mark = scratch_.mark();
  // A batch of queries an item, but some items for each thread.
  const int64_t rows = std::max(kAttentionRowsMin, qkv.rows * kv_heads / (4 * threads()));
  const std::span<RowRange> ranges =
      cut_rows(batch, std::clamp<int64_t>(kQueryBatchMax / group, 1, rows), scratch_);
  const bool exact = arithmetic_ == Arithmetic::float32;
  const int64_t queries_max =
      std::min(kQueryBatchFloats / (place.key_width + place.value_width + kBlockPositions), kQueryBatchMax);
  // Query heads go through the blocks in parts: as many as fit, and fewer where threads would have nothing to do.
  const int64_t idle_parts = ceil_div(threads(), std::ssize(ranges) * kv_heads);
  const int64_t parts =
      std::max(ceil_div(group, queries_max), std::min(idle_parts, group / kernels_.attention_heads_min));
  // Not so many in a group that threads would have nothing to do.
  const int64_t siblings_max = exact || !shape.causal || shape.window > 0
                                   ? 1
                                   : std::min(kSiblingsMax, std::ssize(ranges) * kv_heads / threads());
  const std::span<RangeGroup> groups = group_ranges(
      ranges, place, siblings_max, queries_max / kRowTiles * kRowTiles / ceil_div(group, parts), scratch_);
  for (const RangeGroup& one : groups) {
    block_reads_ += parts * kv_heads * one.shared_positions / kBlockPositions;
    for (const RowRange& range : ranges.subspan(one.first, one.count))
      block_reads_ += parts * kv_heads *
                      (ceil_div(range.positions_before() + range.rows, kBlockPositions) -
                       one.shared_positions / kBlockPositions);
  }
  // Head by head, so that a head's keys and values stay in the cache; the last rows, which see most, first.
  const auto count = static_cast<int64_t>(groups.size());
  fork(count * kv_heads * parts, [&](int64_t item, int64_t thread) {
    const int64_t part = item % parts, head = item / parts / count;
    const RangeGroup& one = groups[count - 1 - item / parts % count];
    const int64_t begin = group * part / parts, end = group * (part + 1) / parts;
    const int64_t first = head * group + begin;  // query head
    const auto task = [&](const RowRange& range) {
      const SequenceRows& sequence = *range.sequence;
      const int64_t row = sequence.first_row + range.first;
      return AttentionTask{.q = qkv.row(row) + first * place.key_dim,
                           .q_stride = qkv.stride,
                           .out = out.row(row) + first * place.value_dim,
                           .out_stride = out.stride,
                           .rows = range.rows,
                           .group = end - begin,
                           .first_position = sequence.first_position + range.first,
                           .positions = sequence.first_position + sequence.rows,
                           .window = shape.window,
                           .causal = shape.causal,
                           .tiles = reinterpret_cast<const uint8_t*>(cache.tiles(layer, head)),
                           .kv_type = cache.shape().type,
                           .key_bytes = place.key_bytes,
                           .block_bytes = place.block_stride,
                           .block_table = block_table(sequence, place).data(),
                           .key_dim = place.key_dim,
                           .key_width = place.key_width,
                           .value_dim = place.value_dim,
                           .value_width = place.value_width,
                           .scale = shape.scale,
                           .softcap = shape.softcap,
                           .sinks = shape.sinks.empty() ? nullptr : shape.sinks.data() + first,
                           .work = exact ? scores_[thread]->data : work(thread),
                           .siblings = one.count - 1,
                           .shared_positions = one.shared_positions};
    };
    AttentionTask tasks[kSiblingsMax];
    for (int64_t i = 0; i < one.count; ++i) tasks[i] = task(ranges[one.first + i]);
    (exact ? kernels_.attend_float : kernels_.attend)(tasks[0]);
  });
  scratch_.release(mark);
}

Tensor CpuBackend::attention_values(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                    const KvCache& cache, int64_t layer) {
  const Tensor out = scratch_.tensor(qkv.rows, shape.num_attention_heads * value_dim(shape));
  attend_rows(qkv, shape, batch, static_cast<const PagedKvCache&>(cache), layer, out);
  return out;
}

Activation CpuBackend::attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                 const KvCache& cache, int64_t layer) {
  const Activation out = make_activation(qkv.rows, shape.num_attention_heads * value_dim(shape));
  if (arithmetic_ == Arithmetic::integer) {
    quantize_later(attention_values(qkv, shape, batch, cache, layer), out);
    return out;
  }
  const Tensor sums = float_rows(out);
  attend_rows(qkv, shape, batch, static_cast<const PagedKvCache&>(cache), layer, sums);
  for (int64_t r = 0; r < out.rows; ++r) pad_row(sums.row(r), out.columns);
  return out;
}

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  return cpu::make_backend(options, cpu::select_kernels(options.isa));
}

int64_t cpu::block_reads(const Backend& backend) {
  return dynamic_cast<const cpu::CpuBackend&>(backend).block_reads();
}

int64_t cpu::forks(const Backend& backend) { return dynamic_cast<const cpu::CpuBackend&>(backend).forks(); }

std::unique_ptr<Backend> cpu::make_backend(const BackendOptions& options, const Kernels& kernels) {
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  return std::make_unique<cpu::CpuBackend>(options, kernels, options.threads > 0 ? options.threads : cores);
}

}  // namespace neutrino::compute
