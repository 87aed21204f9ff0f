// Attention of one key/value head. Included by each table's file inside its unnamed namespace, after rows.inl.
//
// Scores and sums are products of 32 elements as bfloat16 matrix units make them: even and odd elements in a chain of
// fused multiply-adds each, from zero, both added at the end. Keys lie as [dim / 2][32 positions][2] and values as
// [position / 2][dim][2], so both are the same loop: 16 pairs of (row of lanes, 2 broadcast elements).

// 16 pairs of an expanded tile (expand_tile): the firsts, then the seconds.
inline void load_pairs(const float* p, V& even, V& odd) { even = load(p), odd = load(p + 16); }

// out[query][16 * lanes] of: a, 32 floats per query, times b, 16 rows of 16 * lanes pairs of T (bfloat16, or expanded). What stands `ahead`
// elements further is prefetched: the same place in the next block, for tiles are too small for the hardware to see a stream.
template <int queries, int lanes, typename T>
inline void multiply_32(const float* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t ahead,
                        V out[queries][lanes]) {
  V even[queries][lanes], odd[queries][lanes];
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) even[q][v] = odd[q][v] = splat(0.0f);
  for (int64_t i = 0; i < 16; ++i, b += b_stride) {
    V b_even[lanes], b_odd[lanes];
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) {
      load_pairs(b + 32 * v, b_even[v], b_odd[v]);
      if (ahead != 0) __builtin_prefetch(b + ahead + 32 * v);
    }
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q) {
      const V a_even = splat(a[q * a_stride + 2 * i]), a_odd = splat(a[q * a_stride + 2 * i + 1]);
#pragma GCC unroll 8
      for (int v = 0; v < lanes; ++v) {
        even[q][v] = fma(a_even, b_even[v], even[q][v]);
        odd[q][v] = fma(a_odd, b_odd[v], odd[q][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) out[q][v] = add(even[q][v], odd[q][v]);
}

struct Range {
  int64_t first, end;
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

inline Range visible_positions(const AttentionTask& task, int64_t row) {
  const int64_t position = task.first_position + row;
  const int64_t reach = task.window > 0 ? task.window : task.positions;
  return {larger(0, position - reach + 1),
          task.causal ? position + 1 : smaller(task.positions, position + reach)};
}

struct QueryState {
  float m, l;        // running maximum of the scores, sum of exponentials
  float correction;  // of this block
  Range visible;     // the positions that it sees
  float* out;
};

// The buffers of one tile, in AttentionTask::work.
struct TileWork {
  float* q;       // [queries][key_width], rounded to bfloat16
  float* sum;     // [queries][value_width]
  float* scores;  // [queries][32], then the probabilities
  float* keys;    // the block's tiles, expanded
  float* values;
};

// f16 of what store() makes: no infinities, no denormals.
inline float f16_value(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, rest = (half & 0x7FFFu) << 13;
  const uint32_t bits = rest >= 0x0F800000 ? 0x7FC00000 : rest == 0 ? 0 : rest + (112u << 23);
  return __builtin_bit_cast(float, bits | sign);
}

// Tiles of f16 and q8_0 as float32, for load_pairs(). A K tile is width / 2 rows of 32 pairs, a V tile 16 rows of `width`.
inline void expand_f16(const uint16_t* tile, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; i += 32, tile += 32, out += 32)
    for (int64_t j = 0; j < 16; ++j)
      out[j] = f16_value(tile[2 * j]), out[16 + j] = f16_value(tile[2 * j + 1]);
}
inline void expand_q8_keys(const uint8_t* tile, int64_t width, float* out) {
  const auto* q = reinterpret_cast<const int8_t*>(tile);
  const auto* scales = reinterpret_cast<const float*>(tile + width * 32);
  for (int64_t d = 0; d < width; d += 2)  // two dimensions of all positions
    for (int64_t half = 0; half < 32; half += 16, q += 32, out += 32) {
      const float* scale = scales + d / 32 * 32 + half;
      for (int64_t j = 0; j < 16; ++j)
        out[j] = scale[j] * static_cast<float>(q[2 * j]),
        out[16 + j] = scale[j] * static_cast<float>(q[2 * j + 1]);
    }
}
inline void expand_q8_values(const uint8_t* tile, int64_t width, float* out) {
  const auto* q = reinterpret_cast<const int8_t*>(tile);
  const auto* scales = reinterpret_cast<const float*>(tile + width * 32);
  for (int64_t position = 0; position < 32; position += 2)  // all dimensions of two positions
    for (int64_t d = 0; d < width; d += 16, q += 32, out += 32) {
      const float* scale = scales + d / 32 * 32 + position;
      const float even = scale[0], odd = scale[1];
      for (int64_t j = 0; j < 16; ++j)
        out[j] = even * static_cast<float>(q[2 * j]), out[16 + j] = odd * static_cast<float>(q[2 * j + 1]);
    }
}
inline void expand_block(const AttentionTask& task, const uint8_t* tile, const TileWork& work) {
  const uint8_t* values = tile + task.key_bytes;
  if (task.kv_type == KvType::f16) {
    expand_f16(reinterpret_cast<const uint16_t*>(tile), task.key_width * 32, work.keys);
    expand_f16(reinterpret_cast<const uint16_t*>(values), task.value_width * 32, work.values);
  } else {
    expand_q8_keys(tile, task.key_width, work.keys);
    expand_q8_values(values, task.value_width, work.values);
  }
}

template <int queries, typename T>
inline void score_block(const AttentionTask& task, const TileWork& work, const T* keys, int64_t ahead) {
  for (int half = 0; half < 2; half += kAttentionLanes) {
    V score[queries][kAttentionLanes];
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kAttentionLanes; ++v) score[q][v] = splat(0.0f);
    for (int64_t d = 0; d < task.key_width; d += 32) {
      V part[queries][kAttentionLanes];
      multiply_32<queries, kAttentionLanes, T>(work.q + d, task.key_width, keys + d * 32 + half * 32, 64,
                                               ahead, part);
#pragma GCC unroll 8
      for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
        for (int v = 0; v < kAttentionLanes; ++v) score[q][v] = add(score[q][v], part[q][v]);
    }
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kAttentionLanes; ++v)
        store(work.scores + q * 32 + (half + v) * 16, multiply(score[q][v], splat(task.scale)));
  }
}

inline void cap_scores(const AttentionTask& task, float* scores, int64_t n) {
  if (task.softcap > 0) softcap_values(scores, task.softcap, n);
}

// The lanes from `first` on, the others zero.
inline V keep_from(V v, int64_t first) {
  if (first <= 0) return v;
  alignas(64) float lanes[16];
  store(lanes, v);
  for (int64_t i = 0; i < 16 && i < first; ++i) lanes[i] = 0;
  return load(lanes);
}

// Scores to probabilities; the block's positions [first, end) count, the others get probability zero.
inline void softmax_block(QueryState& state, float* scores, int64_t first, int64_t end) {
  for (int64_t j = 0; j < first; ++j) scores[j] = -__builtin_inff();
  for (int64_t j = end; j < 32; ++j) scores[j] = -__builtin_inff();
  const V s0 = load(scores), s1 = load(scores + 16);
  const float block_maximum = tree_maximum(maximum(s0, s1));
  const float m = block_maximum > state.m ? block_maximum : state.m;
  V p0 = exponential(subtract(s0, splat(m))), p1 = exponential(subtract(s1, splat(m)));
  p0 = keep_from(keep_first(p0, end), first), p1 = keep_from(keep_first(p1, end - 16), first - 16);
  alignas(64) float correction[16];
  store(correction, exponential(splat(state.m - m)));
  state.correction = correction[0];
  state.l = state.l * state.correction + tree_sum(add(p0, p1));
  state.m = m;
  store(scores, round_bf16(p0));
  store(scores + 16, round_bf16(p1));
}

template <int queries, typename T>
inline void add_values(const AttentionTask& task, const TileWork& work, const QueryState* state,
                       const bool* active, const T* values, int64_t ahead) {
  const int64_t width = task.value_width;
  for (int64_t d = 0; d < width; d += 16 * kAttentionLanes) {
    V part[queries][kAttentionLanes];
    multiply_32<queries, kAttentionLanes, T>(work.scores, 32, values + 2 * d, 2 * width, ahead, part);
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kAttentionLanes; ++v) {
        float* sum = work.sum + q * width + d + 16 * v;
        if (active[q]) store(sum, add(multiply(load(sum), splat(state[q].correction)), part[q][v]));
      }
  }
}

template <int queries>
void attend_tile(const AttentionTask& task, int64_t first) {
  const int64_t key_width = task.key_width, value_width = task.value_width;
  const TileWork work = {task.work, task.work + queries * key_width,
                         task.work + queries * (key_width + value_width),
                         task.work + kQueryTileMax * (2 * kHeadDimMax + 64),
                         task.work + kQueryTileMax * (2 * kHeadDimMax + 64) + kExpandedTileFloats};
  QueryState state[queries];
  Range all = {task.positions, 0};
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q) {
    const int64_t row = (first + q) / task.group, head = (first + q) % task.group;
    const float* source = task.q + row * task.q_stride + head * task.key_dim;
    for (int64_t d = 0; d < key_width; d += 16)
      store(work.q + q * key_width + d, round_bf16(load_some(source + d, task.key_dim - d)));
    for (int64_t d = 0; d < value_width; d += 16) store(work.sum + q * value_width + d, splat(0.0f));
    state[q] = {task.sinks ? task.sinks[head] : -__builtin_inff(), task.sinks ? 1.0f : 0.0f, 0.0f,
                visible_positions(task, row), task.out + row * task.out_stride + head * task.value_dim};
    all = {smaller(all.first, state[q].visible.first), larger(all.end, state[q].visible.end)};
  }
  const int64_t blocks = (all.end + 31) / 32;
  for (int64_t b = all.first / 32; b < blocks; ++b) {
    const uint8_t* tile = task.tiles + task.block_table[b] * task.block_bytes;
    const bool expanded = task.kv_type != KvType::bf16;
    const auto* keys = reinterpret_cast<const uint16_t*>(tile);
    const auto* values = reinterpret_cast<const uint16_t*>(tile + task.key_bytes);
    if (expanded) expand_block(task, tile, work);
    // Only the first tile reads the blocks from memory, the others find them in the cache.
    const bool prefetch = first == 0 && b + 1 < blocks && !expanded;
    const int64_t ahead =
        prefetch ? (task.block_table[b + 1] - task.block_table[b]) * task.block_bytes / 2 : 0;
    expanded ? score_block<queries>(task, work, work.keys, 0) : score_block<queries>(task, work, keys, ahead);
    bool active[queries];
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q) {
      const int64_t from = larger(state[q].visible.first - 32 * b, 0),
                    to = smaller(state[q].visible.end - 32 * b, 32);
      active[q] = from < to;
      if (!active[q]) continue;
      cap_scores(task, work.scores + q * 32, 32);
      softmax_block(state[q], work.scores + q * 32, from, to);
    }
    expanded ? add_values<queries>(task, work, state, active, work.values, 0)
             : add_values<queries>(task, work, state, active, values, ahead);
  }
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q)
    for (int64_t d = 0; d < task.value_dim; d += 16)
      store_some(state[q].out + d, divide(load(work.sum + q * value_width + d), splat(state[q].l)),
                 task.value_dim - d);
}

void attend(const AttentionTask& task) {
  const int64_t queries = task.rows * task.group;
  int64_t first = 0;
  for (; queries - first >= kQueryTile; first += kQueryTile) attend_tile<kQueryTile>(task, first);
  if constexpr (kQueryTile > 3)
    for (; queries - first >= 3; first += 3) attend_tile<3>(task, first);
  if constexpr (kQueryTile > 2)
    for (; queries - first >= 2; first += 2) attend_tile<2>(task, first);
  for (; first < queries; ++first) attend_tile<1>(task, first);
}

// float32 arithmetic: softmax in two passes, all sums in their fixed order.
inline float dot(const float* a, const float* b, int64_t n) {
  V sum = splat(0.0f);
  for (int64_t i = 0; i < n; i += 16)
    sum = add(sum, multiply(load_some(a + i, n - i), load_some(b + i, n - i)));
  return tree_sum(sum);
}

// task.work[j] belongs to position visible.first + j.
inline void attend_float_query(const AttentionTask& task, const float* q, Range visible, const float* sink,
                               float* out) {
  const int64_t count = visible.end - visible.first;
  const auto tile = [&](int64_t position) {
    return reinterpret_cast<const float*>(task.tiles + task.block_table[position / 32] * task.block_bytes);
  };
  float largest = sink ? *sink : -__builtin_inff();
  for (int64_t j = 0; j < count; ++j) {
    const int64_t position = visible.first + j;
    task.work[j] = dot(tile(position) + position % 32 * task.key_dim, q, task.key_dim) * task.scale;
  }
  cap_scores(task, task.work, count);
  for (int64_t j = 0; j < count; ++j) largest = task.work[j] > largest ? task.work[j] : largest;
  V lanes = splat(0.0f);
  for (int64_t j = 0; j < count; j += 16) {
    const V p =
        keep_first(exponential(subtract(load_some(task.work + j, count - j), splat(largest))), count - j);
    lanes = add(lanes, p);
    store_some(task.work + j, p, count - j);
  }
  float l = tree_sum(lanes);
  alignas(64) float of_sink[16];
  if (sink) store(of_sink, exponential(splat(*sink - largest))), l += of_sink[0];
  for (int64_t d = 0; d < task.value_dim; d += 16) {
    V sum = splat(0.0f);
    for (int64_t j = 0; j < count; ++j) {
      const int64_t position = visible.first + j;
      const float* value = tile(position) + 32 * task.key_dim + position % 32 * task.value_dim + d;
      sum = add(sum, multiply(splat(task.work[j]), load_some(value, task.value_dim - d)));
    }
    store_some(out + d, divide(sum, splat(l)), task.value_dim - d);
  }
}

void attend_float(const AttentionTask& task) {
  for (int64_t r = 0; r < task.rows; ++r)
    for (int64_t h = 0; h < task.group; ++h)
      attend_float_query(task, task.q + r * task.q_stride + h * task.key_dim, visible_positions(task, r),
                         task.sinks ? task.sinks + h : nullptr,
                         task.out + r * task.out_stride + h * task.value_dim);
}
