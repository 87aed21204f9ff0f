// What operations take of the scratch, for Model::scratch_bytes: upper bounds in bytes, the same for every backend. Add up
// what is alive at once (a ScratchScope gives back), and take the maximum over what is not.
#pragma once

#include <cstdint>

namespace neutrino::compute::scratch {

// A Tensor or an Activation of this shape. This is all that the products, the norms, attention and the scans leave behind;
// what they need while they run is counted by the backend itself, except for the operations below.
constexpr int64_t result(int64_t rows, int64_t columns) { return rows * (columns * 7 + 512) + 64; }

// Backend::route(): the routing, and while it runs the probabilities.
constexpr int64_t route(int64_t rows, int64_t experts, int64_t experts_used) {
  return result(rows, experts_used) * 2 + result(rows, experts) * 2;
}

// Backend::experts_add(): nothing stays; while it runs, every routed row's result, and one expert's rows on their way
// through it. hidden_size: the width of the rows that come in, and of those that go out.
constexpr int64_t experts_add(int64_t rows, int64_t experts, int64_t experts_used, int64_t hidden_size,
                              int64_t intermediate_size) {
  return result(rows * experts_used, hidden_size) + result(rows, hidden_size) * 2 +
         result(rows, intermediate_size) * 3 + (rows * experts_used + experts + 1) * 8 + 128;
}

// Backend::gated_delta_net(): its result, and while it runs the normalised queries and keys.
constexpr int64_t gated_delta_net(int64_t rows, int64_t key_heads, int64_t key_dim, int64_t value_heads,
                                  int64_t value_dim) {
  return result(rows, value_heads * value_dim) + result(rows, 2 * key_heads * key_dim);
}

}  // namespace neutrino::compute::scratch
