#include "compute/cpu/updates.h"

#include <algorithm>
#include <cstddef>

#include "base/checked.h"

namespace neutrino::compute::cpu {

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

}  // namespace neutrino::compute::cpu
