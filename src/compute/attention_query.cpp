#include "compute/attention_query.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "compute/arithmetic.h"

namespace neutrino::compute {
namespace {

constexpr int64_t kBlock = kBlockPositions;

struct Query {
  const float* q;  // (head_dim)
  Visible visible;
  const std::byte* tiles;  // of its key/value head
  std::span<const int32_t> block_table;
  float scale, softcap;
  const float* sink;  // null: none
};

// The sum of 32 products as bfloat16 matrix units make it: the even and the odd elements each in a chain of fused
// multiply-adds from zero, then both added. a(i), b(i) for i in [0, 32).
template <typename A, typename B>
float sum_of_32(const A& a, const B& b) {
  float even = 0, odd = 0;
  for (int64_t i = 0; i < kBlock; i += 2) {
    even = std::fma(a(i), b(i), even);
    odd = std::fma(a(i + 1), b(i + 1), odd);
  }
  return even + odd;
}

float round_bf16(float x) { return bf16_to_f32(f32_to_bf16(x)); }

float scaled(const Query& query, float score) {
  const float value = score * query.scale;
  return query.softcap > 0 ? softcap_value(value, query.softcap) : value;
}

// Softmax over blocks of 32 positions in order, with a running maximum m and sum l; out is rescaled when m grows. A sink is
// where both start.
void attend_integer(const Query& query, const PagedKvCache& cache, const KvTiles& place, float* out) {
  float q[kHeadDimMax + kBlock] = {}, sum[kHeadDimMax + kBlock] = {};
  for (int64_t d = 0; d < place.key_dim; ++d) q[d] = round_bf16(query.q[d]);
  float m = query.sink ? *query.sink : -std::numeric_limits<float>::infinity(), l = query.sink ? 1.0f : 0.0f;
  for (int64_t b = query.visible.first / kBlock; b * kBlock < query.visible.end; ++b) {
    const std::byte* tile = query.tiles + query.block_table[b] * place.block_stride;
    const int64_t first = std::max<int64_t>(query.visible.first - b * kBlock, 0);
    const int64_t end = std::min(kBlock, query.visible.end - b * kBlock);
    float p[kBlock] = {}, largest = m;
    for (int64_t j = first; j < end; ++j) {
      float score = 0;
      for (int64_t d = 0; d < place.key_width; d += 32)
        score += sum_of_32([&](int64_t i) { return q[d + i]; },
                           [&](int64_t i) { return cache.key(place, tile, j, d + i); });
      p[j] = scaled(query, score);
      largest = p[j] > largest ? p[j] : largest;
    }
    for (int64_t j = first; j < end; ++j) p[j] = exponential(p[j] - largest);
    float lanes[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) lanes[i] = p[i] + p[i + kLanes];
    const float correction = exponential(m - largest);
    l = l * correction + sum_lanes(lanes);
    m = largest;
    for (float& probability : p) probability = round_bf16(probability);
    for (int64_t d = 0; d < place.value_dim; ++d)
      sum[d] = sum[d] * correction + sum_of_32([&](int64_t i) { return p[i]; },
                                               [&](int64_t i) { return cache.value(place, tile, i, d); });
  }
  for (int64_t d = 0; d < place.value_dim; ++d) out[d] = sum[d] / l;
}

// Softmax in two passes: all scores, then probabilities against their maximum. Lanes count from the first visible position.
void attend_float(const Query& query, const PagedKvCache&, const KvTiles& place, float* out) {
  const auto tile = [&](int64_t position) {
    return reinterpret_cast<const float*>(query.tiles +
                                          query.block_table[position / kBlock] * place.block_stride);
  };
  const auto score = [&](int64_t position) {
    return scaled(query,
                  dot_float(tile(position) + position % kBlock * place.key_dim, query.q, place.key_dim));
  };
  const auto [first, end] = query.visible;
  float largest = query.sink ? *query.sink : -std::numeric_limits<float>::infinity(), lanes[kLanes] = {};
  for (int64_t j = first; j < end; ++j) {
    const float value = score(j);
    largest = value > largest ? value : largest;
  }
  std::fill_n(out, place.value_dim, 0.0f);
  for (int64_t j = first; j < end; ++j) {
    const float p = exponential(score(j) - largest);
    lanes[(j - first) % kLanes] += p;
    const float* value = tile(j) + kBlock * place.key_dim + j % kBlock * place.value_dim;
    for (int64_t d = 0; d < place.value_dim; ++d) out[d] += p * value[d];
  }
  float l = sum_lanes(lanes);
  if (query.sink) l += exponential(*query.sink - largest);
  for (int64_t d = 0; d < place.value_dim; ++d) out[d] /= l;
}

}  // namespace

Visible visible_positions(const AttentionShape& shape, const SequenceRows& sequence, int64_t row) {
  const int64_t position = sequence.first_position + row, all = sequence.first_position + sequence.rows;
  const int64_t reach = shape.window > 0 ? shape.window : all;
  return {.first = std::max<int64_t>(0, position - reach + 1),
          .end = shape.causal ? position + 1 : std::min(all, position + reach)};
}

void check_shapes(const Tensor& qkv, const AttentionShape& shape, const PagedKvCache& cache, int64_t layer) {
  check(layer >= 0 && layer < static_cast<int64_t>(cache.shape().layers.size()),
        "attention: a layer that the cache does not have");
  const KvTiles& place = cache.layer(layer);
  check(place.heads == shape.num_key_value_heads && place.key_dim == shape.head_dim &&
            place.value_dim == value_dim(shape),
        "attention: the cache's layer has another shape");
  const int64_t window = cache.shape().layers[static_cast<size_t>(layer)].window;
  check(window == 0 || (shape.causal && shape.window == window),
        "attention: the cache's layer has another window");
  check(qkv.columns ==
            (shape.num_attention_heads + place.heads) * place.key_dim + place.heads * place.value_dim,
        "attention: rows are [q heads | k heads | v heads]");
  check(shape.sinks.empty() || static_cast<int64_t>(shape.sinks.size()) == shape.num_attention_heads,
        "attention: one sink a head");
}

void attend_query(const AttentionShape& shape, const SequenceRows& sequence, int64_t row, int64_t head,
                  const PagedKvCache& cache, int64_t layer, const float* q, float* out) {
  const int64_t group = shape.num_attention_heads / shape.num_key_value_heads;
  const Query query = {.q = q,
                       .visible = visible_positions(shape, sequence, row),
                       .tiles = cache.tiles(layer, head / group),
                       .block_table = block_table(sequence, cache.layer(layer)),
                       .scale = shape.scale,
                       .softcap = shape.softcap,
                       .sink = shape.sinks.empty() ? nullptr : &shape.sinks[static_cast<size_t>(head)]};
  (cache.arithmetic() == Arithmetic::integer ? attend_integer : attend_float)(query, cache,
                                                                              cache.layer(layer), out);
}

}  // namespace neutrino::compute
