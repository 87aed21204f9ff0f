// Recurrent states: 16 columns of a state at a time, over all its rows. Included by each table's file inside its unnamed
// namespace, after rows.inl; the bits of arithmetic.cpp.

// y[p] = sum over the rows i of change(S[i][p], i, p) q[i], what changes stays in the state.
template <typename F>
inline void for_state(const StateTask& task, const float* q, float* y, F change) {
  for (int64_t p = 0; p < task.width; p += 16) {
    const int64_t n = task.width - p;
    V sum = splat(0.0f);
    float* s = task.state + p;
    for (int64_t i = 0; i < task.rows; ++i, s += task.width) {
      const V value = change(load_some(s, n), i, p);
      store_some(s, value, n);
      sum = add(sum, multiply(value, splat(q[i])));
    }
    store_some(y + p, sum, n);
  }
}

void decay_state(const StateTask& task, float decay, const float* k, float* y) {
  for_state(task, k, y, [=](V s, int64_t, int64_t) { return multiply(s, splat(decay)); });
}

void update_state(const StateTask& task, const float* k, const float* u, const float* q, float* y) {
  for_state(task, q, y, [&](V s, int64_t i, int64_t p) {
    return add(s, multiply(splat(k[i]), load_some(u + p, task.width - p)));
  });
}

void scan_state(const StateTask& task, const ScanInput& input, float* y) {
  for_state(task, input.c, y, [&](V s, int64_t n, int64_t p) {
    const V x = load_some(input.x + p, task.width - p);
    return add(multiply(s, splat(input.decay)), multiply(x, splat(input.step * input.b[n])));
  });
}
