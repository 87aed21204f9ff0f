// Kernels over single rows: norms, functions, gates, quantisation, rotation: the bits of arithmetic.cpp. Included by each table's file inside its unnamed
// namespace, after the sixteen-lane vector V (floats) and I (int32) of that instruction set and its put_block().

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

// exp() of x up to kExpMax, in place: n vectors side by side, for each is one long chain.
template <int n>
inline void exponentials(V (&x)[n]) {
  V rounded[n], r[n], p[n];
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) x[i] = maximum(splat(kExpMin), x[i]);
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) rounded[i] = fma(x[i], splat(kLog2E), splat(kRound));
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) {
    const V minus_n = subtract(splat(kRound), rounded[i]);
    r[i] = fma(minus_n, splat(kLn2Low), fma(minus_n, splat(kLn2High), x[i]));
    p[i] = splat(kExpCoefficients[0]);
  }
#pragma GCC unroll 8
  for (int term = 1; term < 8; ++term)
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) p[i] = fma(p[i], r[i], splat(kExpCoefficients[term]));
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) x[i] = multiply(p[i], exponent_of_low_bits(rounded[i]));
}

inline V exponential(V x) {
  V one[] = {minimum(splat(kExpMax), x)};
  exponentials(one);
  return one[0];
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

void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  V sum = splat(0.0f);
  for (int64_t i = 0; i < n; i += 16) sum = add(sum, load_some(x + i, n - i));
  const V mean = splat(tree_sum(sum) / static_cast<float>(n));
  V squares = splat(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const V centred = keep_first(subtract(load_some(x + i, n - i), mean), n - i);
    squares = fma(centred, centred, squares);
  }
  const V scale = splat(1.0f / __builtin_sqrtf(tree_sum(squares) / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += 16) {
    const V centred = multiply(subtract(load_some(x + i, n - i), mean), scale);
    V y = multiply(centred, load_some(weight + i, n - i));
    if (bias) y = add(y, load_some(bias + i, n - i));
    store_some(out + i, y, n - i);
  }
}

template <int terms>
inline V horner(const float (&coefficients)[terms], V x) {
  V p = splat(coefficients[0]);
#pragma GCC unroll 16
  for (int i = 1; i < terms; ++i) p = fma(p, x, splat(coefficients[i]));
  return p;
}

inline V sigmoid(V x) { return divide(splat(1.0f), add(splat(1.0f), exponential(negate(x)))); }

inline V hyperbolic_tangent(V x) {
  const V z = multiply(x, x), magnitude = absolute(x);
  const V small = fma(multiply(x, z), horner(kTanhCoefficients, z), x);
  const V e = exponential(multiply(splat(-2.0f), magnitude));
  const V large = copy_sign(divide(subtract(splat(1.0f), e), add(splat(1.0f), e)), x);
  return select_less(magnitude, splat(kTanhSmall), small, large);
}

inline V gelu_tanh(V x) {
  const V cube = fma(multiply(multiply(splat(kGeluCube), x), x), x, x);
  const V t = hyperbolic_tangent(multiply(splat(kGeluRoot), cube));
  return multiply(multiply(splat(0.5f), x), add(splat(1.0f), t));
}

inline V gelu_erf(V x) {
  const V t = minimum(splat(kTailMax), absolute(x));
  const V square = multiply(t, t), rest = fma(t, t, negate(square));
  const V e = exponential(multiply(splat(-0.5f), square));
  const V u = divide(splat(1.0f), fma(splat(kTailStep), t, splat(1.0f)));
  const V tail = multiply(horner(kTailCoefficients, u), fma(multiply(splat(-0.5f), rest), e, e));
  return multiply(x, select_less(x, splat(0.0f), tail, subtract(splat(1.0f), tail)));
}

inline V silu(V x) { return divide(x, add(splat(1.0f), exponential(negate(x)))); }

inline V softcap(V x, V cap) { return multiply(cap, hyperbolic_tangent(divide(x, cap))); }

inline V swiglu_oai(V gate, V up) {
  const V g = minimum(splat(kSwigluLimit), gate);
  const V u = maximum(splat(-kSwigluLimit), minimum(splat(kSwigluLimit), up));
  const V e = exponential(negate(multiply(splat(kSwigluSteepness), g)));
  return multiply(divide(g, add(splat(1.0f), e)), add(u, splat(1.0f)));
}

template <typename F>
inline void for_vectors(const float* x, int64_t n, float* out, F f) {
  for (int64_t i = 0; i < n; i += 16) store_some(out + i, f(load_some(x + i, n - i)), n - i);
}

void apply(Function function, float* x, int64_t n) {
  switch (function) {
    case Function::silu: return for_vectors(x, n, x, [](V v) { return silu(v); });
    case Function::gelu_tanh: return for_vectors(x, n, x, [](V v) { return gelu_tanh(v); });
    case Function::gelu_erf: return for_vectors(x, n, x, [](V v) { return gelu_erf(v); });
    case Function::relu_squared:
      return for_vectors(x, n, x,
                         [](V v) { return select_less(v, splat(0.0f), splat(0.0f), multiply(v, v)); });
    case Function::sigmoid: return for_vectors(x, n, x, [](V v) { return sigmoid(v); });
    case Function::tanh: return for_vectors(x, n, x, [](V v) { return hyperbolic_tangent(v); });
    case Function::swiglu_oai: break;
  }
}

void softcap_values(float* x, float cap, int64_t n) {
  for_vectors(x, n, x, [cap](V v) { return softcap(v, splat(cap)); });
}

void gate(Function function, const float* gate, const float* up, int64_t n, float* out) {
  if (function != Function::silu && function != Function::swiglu_oai) {
    if (out != gate) __builtin_memmove(out, gate, static_cast<size_t>(n) * sizeof(float));
    apply(function, out, n);
    gate = out;
  }
  for (int64_t i = 0; i < n; i += 16) {
    const V g = load_some(gate + i, n - i), u = load_some(up + i, n - i);
    const V y = function == Function::silu         ? multiply(silu(g), u)
                : function == Function::swiglu_oai ? swiglu_oai(g, u)
                                                   : multiply(g, u);
    store_some(out + i, y, n - i);
  }
}

// Largest magnitude, compared as integers: a NaN is larger than every number.
inline float largest_magnitude(const float* x, int64_t n) {
  I bits = splat_int(0);
  for (int64_t i = 0; i < n; i += 16) bits = maximum(bits, magnitude_bits(load_some(x + i, n - i)));
  const int32_t largest = tree_maximum(bits);
  return __builtin_bit_cast(float, largest);
}

// At least the norm of integers, of which `squares` is the sum of squares in float32.
inline float norm_of_squares(float squares) { return __builtin_sqrtf(squares) * 1.0001f; }

void quantize(const float* x, int64_t n, uint8_t* row) {
  const int64_t blocks = (n + kColumnBlock - 1) / kColumnBlock;
  auto* header = reinterpret_cast<ActivationHeader*>(row);
  auto* block = reinterpret_cast<XBlock*>(row + sizeof(ActivationHeader));
  auto* words = reinterpret_cast<int16_t*>(block + blocks);
  auto* squares = reinterpret_cast<float*>(words + blocks * kColumnBlock);
  const float largest = largest_magnitude(x, n);
  if (!(largest < __builtin_inff()) || largest < kActivationTiny) {
    header->scale = largest < kActivationTiny ? 0.0f : __builtin_nanf("");
    header->norm_16 = 0;
    __builtin_memset(block, 0, static_cast<size_t>(planes_offset(blocks)) - sizeof(ActivationHeader));
    return;
  }
  header->scale = largest / kActivationMax;
  const float inverse = kActivationMax / largest;
  float largest_16 = 0;  // of sums of squares
  const auto integers = [&](int64_t at) {
    return to_int(multiply(load_some(x + at, n - at), splat(inverse)));
  };
  for (int64_t b = 0; b < blocks; ++b, x += kColumnBlock, n -= kColumnBlock) {
    const HalfSquares sums = put_block(integers(0), integers(16), block[b], words + b * kColumnBlock);
    const float larger = sums.first > sums.second ? sums.first : sums.second;
    squares[b] = sums.first + sums.second;
    largest_16 = larger > largest_16 ? larger : largest_16;
  }
  header->norm_16 = norm_of_squares(largest_16);
}

// Pair i: at first[step * i] and second[step * i]. With the step known, compilers make vectors of it.
template <int step>
inline void rotate_pairs(const RopeTask& task, float* first, float* second) {
  for (int64_t i = 0; i < task.pairs; ++i) {
    const float a = first[step * i], b = second[step * i];
    first[step * i] = a * task.cosine[i] - b * task.sine[i];
    second[step * i] = a * task.sine[i] + b * task.cosine[i];
  }
}

void rotate(const RopeTask& task) {
  if (task.adjacent)
    rotate_pairs<2>(task, task.head, task.head + 1);
  else
    rotate_pairs<1>(task, task.head, task.head + task.pairs);
}

void round_to_bf16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x[i]);
    const uint32_t nan = (bits >> 16) | 0x40u, number = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    out[i] = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : number);
  }
}
