// Recurrent layers: a sequence's tokens one after the other, its channels or heads side by side. The state is updated in one
// order, so that a prompt in one piece, in chunks or token by token gives the same bits.

#include <cmath>

#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/host_backend.h"

namespace neutrino::compute {

float* sequence_state(KvCache& cache, const SequenceRows& sequence, int64_t layer, int64_t offset,
                      int64_t floats) {
  const auto& paged = static_cast<const PagedKvCache&>(cache);
  check(layer >= 0 && layer < static_cast<int64_t>(paged.shape().states.size()) &&
            offset + floats <= paged.shape().states[static_cast<size_t>(layer)],
        "a recurrent state is larger than its place in the cache");
  return paged.state(sequence.state_slot, layer) + offset;
}

namespace {

constexpr int64_t kConvChannels = 64;  // in an item
constexpr int64_t kConvKernelMax = 8;

struct ConvTask {
  const float *weight, *bias;  // bias may be null
  int64_t kernel, first, count, channels;
};

// Channels [first, first + count) of one sequence. `window` holds the kernel - 1 inputs before the row at hand, oldest first.
template <typename Silu>
void conv_channels(const ConvTask& task, const Tensor& x, const SequenceRows& sequence, float* state,
                   Silu silu) {
  const int64_t before = task.kernel - 1;
  float window[kConvKernelMax][kConvChannels];
  for (int64_t k = 0; k < before; ++k)
    std::copy_n(state + k * task.channels + task.first, task.count, window[k]);
  for (int64_t t = 0; t < sequence.rows; ++t) {
    float* row = x.row(sequence.first_row + t) + task.first;
    std::copy_n(row, task.count, window[before]);
    for (int64_t c = 0; c < task.count; ++c) {
      const float* weight = task.weight + (task.first + c) * task.kernel;
      float sum = task.bias ? task.bias[task.first + c] : 0.0f;
      for (int64_t k = 0; k < task.kernel; ++k) sum += weight[k] * window[k][c];
      row[c] = sum;
    }
    silu(row, task.count);
    for (int64_t k = 0; k < before; ++k) std::copy_n(window[k + 1], task.count, window[k]);
  }
  for (int64_t k = 0; k < before; ++k)
    std::copy_n(window[k], task.count, state + k * task.channels + task.first);
}

// What of one token goes into one head's scan.
ScanInput scan_input(const Mamba2Shape& shape, int64_t head, const float* xbc, float dt) {
  const int64_t group = head / (shape.heads / shape.groups);
  const float* b = xbc + shape.heads * shape.head_dim + group * shape.state_size;
  float step = softplus(dt + shape.dt_bias[head]);
  step = step < shape.dt_min ? shape.dt_min : step > shape.dt_max ? shape.dt_max : step;
  return {.decay = exponential(step * shape.a[head]),
          .step = step,
          .x = xbc + head * shape.head_dim,
          .b = b,
          .c = b + shape.groups * shape.state_size};
}

// to = from / sqrt(sum(from^2) + 1e-6) * factor
void normalize_head(const float* from, int64_t n, float factor, float* to) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % kLanes] = std::fma(from[i], from[i], lanes[i % kLanes]);
  const float scale = 1.0f / std::sqrt(sum_lanes(lanes) + 1e-6f) * factor;
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] * scale;
}

}  // namespace

void HostBackend::causal_conv1d(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                                int64_t kernel, const Batch& batch, KvCache& cache, int64_t layer,
                                int64_t state_offset) {
  check(kernel >= 1 && kernel <= kConvKernelMax, "causal_conv1d takes kernels of 1-8");
  check(static_cast<int64_t>(weight.size()) == x.columns * kernel &&
            (bias.empty() || static_cast<int64_t>(bias.size()) == x.columns),
        "causal_conv1d: weight is (channels, kernel), bias (channels)");
  const int64_t chunks = (x.columns + kConvChannels - 1) / kConvChannels;
  for_each(static_cast<int64_t>(batch.sequences.size()) * chunks, [&](int64_t item) {
    const SequenceRows& sequence = batch.sequences[item / chunks];
    const int64_t first = item % chunks * kConvChannels;
    float* state = sequence_state(cache, sequence, layer, state_offset, (kernel - 1) * x.columns);
    conv_channels({.weight = weight.data(),
                   .bias = bias.empty() ? nullptr : bias.data(),
                   .kernel = kernel,
                   .first = first,
                   .count = std::min(kConvChannels, x.columns - first),
                   .channels = x.columns},
                  x, sequence, state,
                  [this](float* values, int64_t n) { apply_values(Function::silu, values, n); });
  });
}

Tensor HostBackend::mamba2_scan(const Tensor& xbc, const Tensor& dt, const Mamba2Shape& shape,
                                const Batch& batch, KvCache& cache, int64_t layer, int64_t state_offset) {
  check(xbc.columns == shape.heads * shape.head_dim + 2 * shape.groups * shape.state_size &&
            dt.columns == shape.heads && dt.rows == xbc.rows && shape.heads % shape.groups == 0,
        "mamba2_scan: rows of [x | B | C] and one dt a head");
  const Tensor out = scratch_.tensor(xbc.rows, shape.heads * shape.head_dim);
  for_each(static_cast<int64_t>(batch.sequences.size()) * shape.heads, [&](int64_t item) {
    const SequenceRows& sequence = batch.sequences[item / shape.heads];
    const int64_t head = item % shape.heads;
    float* state = sequence_state(cache, sequence, layer, state_offset, shape.state_floats());
    const StateTask task = {.state = state + head * shape.head_dim * shape.state_size,
                            .rows = shape.state_size,
                            .width = shape.head_dim};
    for (int64_t t = 0; t < sequence.rows; ++t) {
      const int64_t r = sequence.first_row + t;
      const ScanInput input = scan_input(shape, head, xbc.row(r), dt.row(r)[head]);
      float* y = out.row(r) + head * shape.head_dim;
      scan_state(task, input, y);
      for (int64_t p = 0; p < shape.head_dim; ++p) y[p] += shape.d[head] * input.x[p];
    }
  });
  return out;
}

Tensor HostBackend::gated_delta_net(const Tensor& qkv, const Tensor& alpha, const Tensor& beta,
                                    const DeltaNetShape& shape, const Batch& batch, KvCache& cache,
                                    int64_t layer, int64_t state_offset) {
  const int64_t keys = shape.key_heads * shape.key_dim;
  check(qkv.columns == 2 * keys + shape.value_heads * shape.value_dim && alpha.columns == shape.value_heads &&
            beta.columns == shape.value_heads && shape.value_heads % shape.key_heads == 0 &&
            shape.value_dim <= kHeadDimMax,
        "gated_delta_net: rows of [q | k | v], one alpha and one beta a value head");
  const Tensor out = scratch_.tensor(qkv.rows, shape.value_heads * shape.value_dim);
  const int64_t mark = scratch_.mark();
  const Tensor normed = scratch_.tensor(qkv.rows, 2 * keys);
  const float q_scale = 1.0f / std::sqrt(static_cast<float>(shape.key_dim));
  for_rows(qkv.rows, [&](int64_t r) {
    for (int64_t c = 0; c < 2 * keys; c += shape.key_dim)
      normalize_head(qkv.row(r) + c, shape.key_dim, c < keys ? q_scale : 1.0f, normed.row(r) + c);
  });
  for_each(static_cast<int64_t>(batch.sequences.size()) * shape.value_heads, [&](int64_t item) {
    const SequenceRows& sequence = batch.sequences[item / shape.value_heads];
    const int64_t head = item % shape.value_heads, key = head % shape.key_heads * shape.key_dim;
    float* state = sequence_state(cache, sequence, layer, state_offset, shape.state_floats());
    const StateTask task = {.state = state + head * shape.key_dim * shape.value_dim,
                            .rows = shape.key_dim,
                            .width = shape.value_dim};
    float u[kHeadDimMax];
    for (int64_t t = 0; t < sequence.rows; ++t) {
      const int64_t r = sequence.first_row + t;
      const float *q = normed.row(r) + key, *k = q + keys;
      const float* v = qkv.row(r) + 2 * keys + head * shape.value_dim;
      const float g = shape.a[head] * softplus(alpha.row(r)[head] + shape.dt_bias[head]);
      const float rate = sigmoid(beta.row(r)[head]);
      float* y = out.row(r) + head * shape.value_dim;
      decay_state(task, exponential(g), k, y);
      for (int64_t p = 0; p < shape.value_dim; ++p) u[p] = rate * (v[p] - y[p]);
      update_state(task, k, u, q, y);
    }
  });
  scratch_.release(mark);
  return out;
}

}  // namespace neutrino::compute
