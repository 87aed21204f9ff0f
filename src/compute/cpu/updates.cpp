#include "compute/cpu/updates.h"

#include <algorithm>
#include <cstddef>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::compute::cpu {
namespace {

constexpr int64_t kUpdateRows = 16;       // of an item
constexpr int64_t kPrefetchBytes = 2048;  // as far as the kernels ask ahead

// The first bytes of what is read soon: behind them the kernel asks for the rest as it goes, but here it would wait.
void prefetch(const LanePanels& panels, int64_t panel) {
  const std::byte* const data = panels.panel(panel);
  const int64_t bytes = std::min(kPrefetchBytes, panels.bytes() - panel * panels.panel_bytes());
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + i);
}

int64_t words_at(const HostAdapter::Product& product) {
  return product.hidden * static_cast<int64_t>(sizeof(float));
}
int64_t scales_at(const HostAdapter::Product& product) {
  return words_at(product) + product.hidden * static_cast<int64_t>(sizeof(int16_t));
}
int64_t hidden_row_bytes(const HostAdapter::Product& product) {
  return scales_at(product) +
         ceil_div(std::ssize(product.parts), 2) * 2 * static_cast<int64_t>(sizeof(float));
}

// h as the products with B read it.
void round_hidden(const Kernels& kernels, const HostAdapter::Product& product, std::byte* row) {
  auto* const floats = reinterpret_cast<float*>(row);
  auto* const words = reinterpret_cast<int16_t*>(row + words_at(product));
  auto* scale = reinterpret_cast<float*>(row + scales_at(product));
  for (const HostAdapter::Part& part : product.parts)
    *scale++ = kernels.round_words(floats + part.hidden, part.terms, words + part.hidden);
}

// h of the update's rows [first, first + rows).
void reduce_rows(const Kernels& kernels, const Activation& x, const Update& update, int64_t first,
                 int64_t rows) {
  const auto* row = reinterpret_cast<const uint8_t*>(x.data) + (update.first_row + first) * x.row_bytes;
  const LanePanels& a = update.product->a;
  std::byte* const hidden = update.hidden + first * update.hidden_bytes;
  LowRankTask task{.weights = a.data,
                   .inner = a.inner,
                   .panels = a.panels,
                   .x = row,
                   .scales = nullptr,
                   .x_stride = x.row_bytes,
                   .rows = rows,
                   .out = reinterpret_cast<float*>(hidden),
                   .out_stride = update.hidden_bytes / static_cast<int64_t>(sizeof(float)),
                   .add = false};
  if (!a.integers) return kernels.low_rank_float(task);
  task.x = row + static_cast<int64_t>(sizeof(ActivationHeader)) +
           ceil_div(x.columns, kColumnBlock) * static_cast<int64_t>(sizeof(XBlock));
  task.scales = row + offsetof(ActivationHeader, scale);
  kernels.low_rank(task);
  for (int64_t r = 0; r < rows; ++r) round_hidden(kernels, *update.product, hidden + r * update.hidden_bytes);
}

// out += B h for `panels` panels of one section and some of the update's rows; out has whole panels.
void add_update(const Kernels& kernels, const Update& update, const HostAdapter::Up& up, int64_t panel,
                int64_t panels, int64_t first, int64_t rows, float* out, int64_t out_stride) {
  const auto* hidden = reinterpret_cast<const uint8_t*>(update.hidden + first * update.hidden_bytes);
  LowRankTask task{.weights = up.b.panel(panel),
                   .inner = up.b.inner,
                   .panels = panels,
                   .x = hidden + up.hidden * static_cast<int64_t>(sizeof(float)),
                   .scales = nullptr,
                   .x_stride = update.hidden_bytes,
                   .rows = rows,
                   .out = out,
                   .out_stride = out_stride,
                   .add = true};
  if (!up.b.integers) return kernels.low_rank_float(task);
  task.x = hidden + words_at(*update.product) + up.hidden * static_cast<int64_t>(sizeof(int16_t));
  task.scales = hidden + scales_at(*update.product) + up.part * static_cast<int64_t>(sizeof(float));
  kernels.low_rank(task);
}

}  // namespace

Updates plan_updates(std::span<const AdapterRows> all, const Activation& x, const Matrix& matrix,
                     Scratch& scratch) {
  if (all.empty() || matrix.product() < 0) return {};
  auto* updates =
      reinterpret_cast<Update*>(scratch.take(std::ssize(all) * static_cast<int64_t>(sizeof(Update))));
  size_t count = 0;
  for (const AdapterRows& rows : all) {
    const HostAdapter::Product* product = rows.adapter->product(matrix.product());
    if (product == nullptr) continue;
    check(rows.first_row + rows.rows <= x.rows, "an adapter changes products over all rows of a batch");
    const int64_t bytes = hidden_row_bytes(*product);
    updates[count++] = {product, rows.first_row, rows.rows, scratch.take(rows.rows * bytes), bytes};
  }
  return {updates, count};
}

int64_t update_items(Updates updates) {
  int64_t items = 0;
  for (const Update& update : updates) items += ceil_div(update.rows, kUpdateRows);
  return items;
}

void reduce_item(const Kernels& kernels, const Activation& x, Updates updates, int64_t item) {
  const Update* update = updates.data();
  for (; item >= ceil_div(update->rows, kUpdateRows); ++update) item -= ceil_div(update->rows, kUpdateRows);
  const int64_t first = item * kUpdateRows;
  if (update + 1 < updates.data() + updates.size()) prefetch(update[1].product->a, 0);
  reduce_rows(kernels, x, *update, first, std::min(kUpdateRows, update->rows - first));
}

void prefetch_update(Updates updates, size_t section, int64_t panel) {
  if (updates.empty()) return;
  const LanePanels& b = updates[0].product->up[section].b;
  if (b.panels > 0) prefetch(b, panel);
}

// A last panel of fewer than 16 rows goes by way of a whole one.
void add_updates(const Kernels& kernels, Updates updates, size_t section, int64_t first, int64_t end,
                 const Tensor& out) {
  for (size_t u = 0; u < updates.size(); ++u) {
    const Update& update = updates[u];
    const HostAdapter::Up& up = update.product->up[section];
    prefetch_update(updates.subspan(u + 1), section, first);
    if (up.b.panels == 0) continue;
    const int64_t whole = std::min(end, up.rows / kPanelRows);
    float* rows = out.row(update.first_row) + up.row;
    if (first < whole)
      add_update(kernels, update, up, first, whole - first, 0, update.rows, rows + first * kPanelRows,
                 out.stride);
    if (end == whole) continue;
    const int64_t last = up.rows / kPanelRows, width = up.rows % kPanelRows;
    for (int64_t r = 0; r < update.rows; ++r) {
      float tile[kPanelRows] = {}, *target = out.row(update.first_row + r) + up.row + last * kPanelRows;
      std::copy_n(target, width, tile);
      add_update(kernels, update, up, last, 1, r, 1, tile, kPanelRows);
      std::copy_n(tile, width, target);
    }
  }
}

void add_gate_updates(const Kernels& kernels, Updates updates, size_t part, int64_t panel, int64_t panels,
                      int64_t row, int64_t rows, float* out, int64_t out_stride) {
  for (size_t u = 0; u < updates.size(); ++u) {
    const Update& update = updates[u];
    const HostAdapter::Up& up = update.product->up[part];
    prefetch_update(updates.subspan(u + 1), part, panel);
    const int64_t first = std::max(row, update.first_row),
                  end = std::min(row + rows, update.first_row + update.rows);
    if (up.b.panels > 0 && first < end)
      add_update(kernels, update, up, panel, panels, first - update.first_row, end - first,
                 out + (first - row) * out_stride, out_stride);
  }
}

}  // namespace neutrino::compute::cpu
