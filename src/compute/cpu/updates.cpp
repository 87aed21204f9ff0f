#include "compute/cpu/updates.h"

#include <algorithm>
#include <cstddef>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::compute::cpu {
namespace {

constexpr int64_t kUpdateRows = 16;  // of an item

// h of the update's rows [first, first + rows).
void reduce_rows(const Kernels& kernels, Arithmetic arithmetic, const Activation& x, const Update& update,
                 int64_t first, int64_t rows) {
  const auto* row = reinterpret_cast<const uint8_t*>(x.data) + (update.first_row + first) * x.row_bytes;
  const bool integers = arithmetic == Arithmetic::integer;
  const int64_t words = static_cast<int64_t>(sizeof(ActivationHeader)) +
                        ceil_div(x.columns, kColumnBlock) * static_cast<int64_t>(sizeof(XBlock));
  for (const HostAdapter::Down& down : update.product->down)
    kernels.low_rank({.weights = down.a.data,
                      .bf16 = down.a.bf16,
                      .inner = down.a.inner,
                      .panels = down.a.panels,
                      .x = integers ? row + words : row,
                      .scales = integers ? row + offsetof(ActivationHeader, scale) : nullptr,
                      .x_stride = x.row_bytes,
                      .rows = rows,
                      .out = update.hidden + first * update.product->hidden + down.hidden,
                      .out_stride = update.product->hidden,
                      .add = false});
}

// out += B h for `panels` panels of one section and some of the update's rows; out has whole panels.
void add_update(const Kernels& kernels, const Update& update, const HostAdapter::Up& up, int64_t panel,
                int64_t panels, int64_t first, int64_t rows, float* out, int64_t out_stride) {
  const float* hidden = update.hidden + first * update.product->hidden + up.hidden;
  kernels.low_rank({.weights = up.b.panel(panel),
                    .bf16 = up.b.bf16,
                    .inner = up.b.inner,
                    .panels = panels,
                    .x = reinterpret_cast<const uint8_t*>(hidden),
                    .scales = nullptr,
                    .x_stride = update.product->hidden * static_cast<int64_t>(sizeof(float)),
                    .rows = rows,
                    .out = out,
                    .out_stride = out_stride,
                    .add = true});
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
    const int64_t bytes = rows.rows * product->hidden * static_cast<int64_t>(sizeof(float));
    updates[count++] = {product, rows.first_row, rows.rows, reinterpret_cast<float*>(scratch.take(bytes))};
  }
  return {updates, count};
}

int64_t update_items(Updates updates) {
  int64_t items = 0;
  for (const Update& update : updates) items += ceil_div(update.rows, kUpdateRows);
  return items;
}

void reduce_item(const Kernels& kernels, Arithmetic arithmetic, const Activation& x, Updates updates,
                 int64_t item) {
  const Update* update = updates.data();
  for (; item >= ceil_div(update->rows, kUpdateRows); ++update) item -= ceil_div(update->rows, kUpdateRows);
  const int64_t first = item * kUpdateRows;
  reduce_rows(kernels, arithmetic, x, *update, first, std::min(kUpdateRows, update->rows - first));
}

// A last panel of fewer than 16 rows goes by way of a whole one.
void add_updates(const Kernels& kernels, Updates updates, size_t section, int64_t first, int64_t end,
                 const Tensor& out) {
  for (const Update& update : updates) {
    const HostAdapter::Up& up = update.product->up[section];
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
  for (const Update& update : updates) {
    const HostAdapter::Up& up = update.product->up[part];
    const int64_t first = std::max(row, update.first_row),
                  end = std::min(row + rows, update.first_row + update.rows);
    if (up.b.panels > 0 && first < end)
      add_update(kernels, update, up, panel, panels, first - update.first_row, end - first,
                 out + (first - row) * out_stride, out_stride);
  }
}

}  // namespace neutrino::compute::cpu
