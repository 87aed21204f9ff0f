// What adapters do in a product of the CPU backend: h = A x before it, B h added to its result, panel by panel.
#pragma once

#include <cstdint>
#include <span>

#include "compute/cpu/kernels.h"
#include "compute/host_adapter.h"
#include "compute/scratch.h"
#include "compute/tensor.h"

namespace neutrino::compute::cpu {

// An adapter's part of one product, for some of its rows. A row of h: product->hidden floats, in integer arithmetic then as many
// int16 and one scale for each of the product's parts.
struct Update {
  const HostAdapter::Product* product;
  int64_t first_row, rows;
  std::byte* hidden;
  int64_t hidden_bytes;  // from one row to the next
};
using Updates = std::span<const Update>;

// What the adapters of these rows change in products with x and `matrix`, with room for h, in scratch.
Updates plan_updates(std::span<const AdapterRows> rows, const Activation& x, const Matrix& matrix,
                     Scratch& scratch);

// The work in front of the product, in pieces: h of some rows each.
int64_t update_items(Updates updates);
void reduce_item(const Kernels& kernels, const Activation& x, Updates updates, int64_t item);

// Asks memory for the first update's B from this panel on, before add_updates() and what stands in front of it.
void prefetch_update(Updates updates, size_t section, int64_t panel);

// The panels [first, end) of one section of a product's result.
void add_updates(const Kernels& kernels, Updates updates, size_t section, int64_t first, int64_t end,
                 const Tensor& out);

// The same of a piece of a gated product: `rows` rows from `row` on, `panels` panels of section `part`; out has whole panels.
void add_gate_updates(const Kernels& kernels, Updates updates, size_t part, int64_t panel, int64_t panels,
                      int64_t row, int64_t rows, float* out, int64_t out_stride);

}  // namespace neutrino::compute::cpu
