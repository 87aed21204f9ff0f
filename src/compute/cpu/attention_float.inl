// Attention in float32 arithmetic: softmax in two passes, all sums in their fixed order. Included by attention.inl.

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
