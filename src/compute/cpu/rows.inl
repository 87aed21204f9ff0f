// Kernels over single rows: norm, quantisation, gate, rotation. Included by each table's file inside its unnamed
// namespace, after the sixteen-lane vector V (floats) and I (int32) of that instruction set.

// The first n of 16 floats, the others zero; n may be 0 or less, or more than 16.
inline V load_some(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  alignas(64) float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}

inline void store_some(float* p, V v, int64_t n) {
  if (n >= 16) return store(p, v);
  alignas(64) float lanes[16];
  store(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

inline V exponential(V x) {
  x = maximum(splat(kExpMin), x);
  x = minimum(splat(kExpMax), x);
  const V rounded = fma(x, splat(kLog2E), splat(kRound));
  const V minus_n = subtract(splat(kRound), rounded);
  const V r = fma(minus_n, splat(kLn2Low), fma(minus_n, splat(kLn2High), x));
  V p = splat(kExpCoefficients[0]);
  for (int i = 1; i < 8; ++i) p = fma(p, r, splat(kExpCoefficients[i]));
  return multiply(p, exponent_of_low_bits(rounded));
}

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  V sum = splat(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const V v = load_some(x + i, n - i);
    sum = fma(v, v, sum);
  }
  const float scale = 1.0f / __builtin_sqrtf(tree_sum(sum) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; i += 16) {
    const V y = multiply(load_some(x + i, n - i), splat(scale));
    store_some(out + i, multiply(y, load_some(weight + i, n - i)), n - i);
  }
}

void silu_product(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const V g = load_some(gate + i, n - i);
    const V one = splat(1.0f);
    const V silu = divide(g, add(one, exponential(negate(g))));
    store_some(out + i, multiply(silu, load_some(up + i, n - i)), n - i);
  }
}

// Largest magnitude, compared as integers: a NaN is larger than every number.
inline float largest_magnitude(const float* x, int64_t n) {
  I bits = splat_int(0);
  for (int64_t i = 0; i < n; i += 16) bits = maximum(bits, magnitude_bits(load_some(x + i, n - i)));
  const int32_t largest = tree_maximum(bits);
  return __builtin_bit_cast(float, largest);
}

inline void quantize_half(const float* x, int64_t n, float inverse, int half, XBlock& block, int16_t* out,
                          I& sum_h, I& sum_l) {
  const I v = to_int(multiply(load_some(x, n), splat(inverse)));
  const I h = shift_right_7(v), l = low_7_bits(v);
  store_bytes(block.h + 16 * half, h);
  store_bytes(block.l + 16 * half, l);
  store_words(out + 16 * half, v);
  sum_h = add(sum_h, h), sum_l = add(sum_l, l);
}

void quantize(const float* x, int64_t n, uint8_t* row) {
  const int64_t blocks = (n + kColumnBlock - 1) / kColumnBlock;
  auto* header = reinterpret_cast<ActivationHeader*>(row);
  auto* block = reinterpret_cast<XBlock*>(row + sizeof(ActivationHeader));
  auto* words = reinterpret_cast<int16_t*>(block + blocks);
  const float largest = largest_magnitude(x, n);
  if (!(largest < __builtin_inff()) || largest < kActivationTiny) {
    header->scale = largest < kActivationTiny ? 0.0f : __builtin_nanf("");
    __builtin_memset(block, 0,
                     static_cast<size_t>(blocks) * (sizeof(XBlock) + kColumnBlock * sizeof(int16_t)));
    return;
  }
  header->scale = largest / kActivationMax;
  const float inverse = kActivationMax / largest;
  for (int64_t b = 0; b < blocks; ++b, x += kColumnBlock, n -= kColumnBlock) {
    I sum_h = splat_int(0), sum_l = splat_int(0);
    quantize_half(x, n, inverse, 0, block[b], words + b * kColumnBlock, sum_h, sum_l);
    quantize_half(x + 16, n - 16, inverse, 1, block[b], words + b * kColumnBlock, sum_h, sum_l);
    const int32_t h = tree_sum(sum_h), l = tree_sum(sum_l);
    block[b].minus_8h = -8 * h, block[b].high_h = h * 65536;
    block[b].minus_8l = -8 * l, block[b].high_l = l * 65536;
  }
}

void rotate(const RopeTask& task) {
  float* head = task.head;
  const int64_t pairs = task.pairs, first = task.adjacent ? 2 : 1, second = task.adjacent ? 1 : pairs;
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = head[i * first], b = head[i * first + second];
    head[i * first] = a * task.cosine[i] - b * task.sine[i];
    head[i * first + second] = a * task.sine[i] + b * task.cosine[i];
  }
}

void round_to_bf16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x[i]);
    const uint32_t nan = (bits >> 16) | 0x40u, number = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    out[i] = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : number);
  }
}
