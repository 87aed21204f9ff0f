// What adapters do in a product of the CPU backend: h = A x before it, B h added to its result, panel by panel.
#pragma once

#include <cstdint>
#include <span>

#include "compute/cpu/kernels.h"
#include "compute/host_adapter.h"
#include "compute/tensor.h"

namespace neutrino::compute::cpu {

// An adapter's part of one product, for some of its rows.
struct Update {
  const HostAdapter::Product* product;
  int64_t first_row, rows;
  float* hidden;  // h: (rows, product->hidden)
};
using Updates = std::span<const Update>;

// A piece of work in front of the product.
inline constexpr int64_t kUpdateRows = 16;

// h of the update's rows [first, first + rows).
void reduce_rows(const Kernels& kernels, Arithmetic arithmetic, const Activation& x, const Update& update,
                 int64_t first, int64_t rows);

// out += B h for `panels` panels of one section and some of the update's rows; out has whole panels.
void add_update(const Kernels& kernels, const Update& update, const HostAdapter::Up& up, int64_t panel,
                int64_t panels, int64_t first, int64_t rows, float* out, int64_t out_stride);

// The panels [first, end) of one section of a product's result.
void add_updates(const Kernels& kernels, Updates updates, size_t section, int64_t first, int64_t end,
                 const Tensor& out);

}  // namespace neutrino::compute::cpu
