// Keys and values that are not bfloat16, as float32. Included by attention.inl.
//
// A K tile is width / 2 rows of 32 pairs, a V tile 16 rows of `width` pairs. Expanded, each 16 pairs are 32 floats: the firsts,
// then the seconds, so that load_even() and load_odd() are plain loads.

inline V load_even(const float* p) { return load(p); }
inline V load_odd(const float* p) { return load(p + 16); }

// f16 of what PagedKvCache stores, in the upper halves of float32: no infinities, no denormals.
inline V half_values(V bits) {
  const V magnitude = multiply(as_floats(shift_right_3(magnitude_bits(bits))), splat(0x1p112f));
  return copy_sign(select_less(magnitude, splat(65536.0f), magnitude, splat(__builtin_nanf(""))), bits);
}

inline void expand_f16(const uint16_t* tile, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; i += 32) {
    store(out + i, half_values(load_even(tile + i)));
    store(out + i + 16, half_values(load_odd(tile + i)));
  }
}

// One scale for each position's 32 dimensions: [width / 32][32 positions] behind the integers.
inline void expand_q8_keys(const uint8_t* tile, int64_t width, float* out) {
  const auto* q = reinterpret_cast<const int8_t*>(tile);
  const auto* scales = reinterpret_cast<const float*>(tile + width * 32);
  for (int64_t d = 0; d < width; d += 2)  // two dimensions of all positions
    for (int64_t half = 0; half < 32; half += 16, q += 32, out += 32) {
      const V scale = load(scales + d / 32 * 32 + half);
      store(out, multiply(scale, load_even(q)));
      store(out + 16, multiply(scale, load_odd(q)));
    }
}

inline void expand_q8_values(const uint8_t* tile, int64_t width, float* out) {
  const auto* q = reinterpret_cast<const int8_t*>(tile);
  const auto* scales = reinterpret_cast<const float*>(tile + width * 32);
  for (int64_t position = 0; position < 32; position += 2)  // all dimensions of two positions
    for (int64_t d = 0; d < width; d += 16, q += 32, out += 32) {
      const float* scale = scales + d / 32 * 32 + position;
      store(out, multiply(splat(scale[0]), load_even(q)));
      store(out + 16, multiply(splat(scale[1]), load_odd(q)));
    }
}

// The tiles at `tile` as float32. Those `ahead` bytes further come next: by then they are in the L2 cache.
inline void expand_block(const AttentionTask& task, const uint8_t* tile, int64_t ahead, float* keys,
                         float* values) {
  const uint8_t* v = tile + task.key_bytes;
  const int64_t bytes = task.key_bytes + task.key_bytes / task.key_width * task.value_width;
  for (int64_t i = 0; ahead != 0 && i < bytes; i += 64) __builtin_prefetch(tile + ahead + i, 0, 2);
  if (task.kv_type == KvType::q8_0) {
    expand_q8_keys(tile, task.key_width, keys);
    expand_q8_values(v, task.value_width, values);
    return;
  }
  expand_f16(reinterpret_cast<const uint16_t*>(tile), task.key_width * 32, keys);
  expand_f16(reinterpret_cast<const uint16_t*>(v), task.value_width * 32, values);
}
