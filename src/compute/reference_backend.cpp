// The definition of every operation: scalar, in order, one row after the other.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/backend.h"
#include "compute/integer_weights.h"
#include "compute/paged_kv_cache.h"
#include "compute/scratch.h"

namespace neutrino::compute {
namespace {

constexpr int64_t kBlock = kBlockPositions;

class ReferenceMatrix final : public Matrix {
 public:
  ReferenceMatrix(std::span<const WeightView> parts, Arithmetic arithmetic);
  int64_t bytes() const override {
    return static_cast<int64_t>(integers.size() * sizeof(int32_t) + scales.size() * sizeof(float) +
                                floats.size() * sizeof(float));
  }

  std::vector<float> floats;      // (rows, columns): float32 arithmetic and embed()
  std::vector<int32_t> integers;  // (rows, columns): integer arithmetic
  std::vector<float> scales;      // (rows)

 private:
  void append(const WeightView& part, Arithmetic arithmetic);
};

int64_t total_rows(std::span<const WeightView> parts) {
  int64_t rows = 0;
  for (const WeightView& part : parts) rows += part.rows;
  return rows;
}

ReferenceMatrix::ReferenceMatrix(std::span<const WeightView> parts, Arithmetic arithmetic)
    : Matrix(total_rows(parts), parts[0].columns) {
  for (const WeightView& part : parts) append(part, arithmetic);
}

void ReferenceMatrix::append(const WeightView& part, Arithmetic arithmetic) {
  check(part.columns == columns_, "stacked matrices have the same number of columns");
  const int64_t stride = row_bytes(part.dtype, part.columns).value();
  IntegerRow integer;
  for (int64_t r = 0; r < part.rows; ++r) {
    floats.resize(floats.size() + columns_);
    dequantize_row(part.dtype, part.data + r * stride, columns_, floats.data() + floats.size() - columns_);
    if (arithmetic == Arithmetic::float32) continue;
    integer_row(part.dtype, part.data + r * stride, columns_, integer);
    scales.push_back(integer.scale);
    for (int64_t c = 0; c < columns_; ++c)
      integers.push_back(integer_weight(weight_kind(part.dtype), integer, c));
  }
}

// An integer activation row is {float scale; int16 x[columns]}.
int16_t* integers_of(const Activation& x, int64_t row) {
  return reinterpret_cast<int16_t*>(x.data + row * x.row_bytes + sizeof(float));
}
float& scale_of(const Activation& x, int64_t row) {
  return *reinterpret_cast<float*>(x.data + row * x.row_bytes);
}

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(Arithmetic arithmetic) : arithmetic_(arithmetic) {}
  std::string_view name() const override { return "reference"; }
  Arithmetic arithmetic() const override { return arithmetic_; }
  int64_t threads() const override { return 1; }

  std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) override {
    return std::make_unique<ReferenceMatrix>(parts, arithmetic_);
  }
  std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) override {
    const WeightView parts[] = {gate, up};
    check(gate.rows == up.rows, "gate and up have the same number of rows");
    return std::make_unique<ReferenceMatrix>(parts, arithmetic_);
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) override {
    return std::make_unique<PagedKvCache>(shape, arithmetic_);
  }
  void reserve(int64_t scratch_bytes) override { scratch_.reserve(scratch_bytes); }

  void begin_step() override { scratch_.release(0), set_float_mode(); }
  int64_t scratch_mark() const override { return scratch_.mark(); }
  void scratch_release(int64_t mark) override { scratch_.release(mark); }
  Tensor embed(const Matrix& table, std::span<const int32_t> tokens) override;
  Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) override;
  Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) override;
  Tensor matmul(const Activation& x, const Matrix& w) override;
  void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) override;
  Activation gated_matmul(const Activation& x, const Matrix& gate_up) override;
  void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape, const Batch& batch,
                      KvCache& cache, int64_t layer) override;
  Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                       const KvCache& cache, int64_t layer) override;
  void parallel_for(int64_t count, void (*fn)(void*, int64_t), void* context) override {
    for (int64_t i = 0; i < count; ++i) fn(context, i);
  }

 private:
  Activation make_activation(int64_t rows, int64_t columns);
  void write_activation(const Activation& out, int64_t row, const float* values) const;
  float product(const Activation& x, int64_t x_row, const ReferenceMatrix& w, int64_t w_row) const;

  Arithmetic arithmetic_;
  Scratch scratch_;
};

Activation ReferenceBackend::make_activation(int64_t rows, int64_t columns) {
  const int64_t bytes = arithmetic_ == Arithmetic::float32 ? columns * 4 : ceil_div(columns * 2 + 4, 4) * 4;
  return {.data = scratch_.take(rows * bytes), .rows = rows, .columns = columns, .row_bytes = bytes};
}

void ReferenceBackend::write_activation(const Activation& out, int64_t row, const float* values) const {
  if (arithmetic_ == Arithmetic::float32)
    std::memcpy(out.data + row * out.row_bytes, values, static_cast<size_t>(out.columns) * sizeof(float));
  else
    scale_of(out, row) = quantize_row(values, out.columns, integers_of(out, row));
}

Tensor ReferenceBackend::embed(const Matrix& table, std::span<const int32_t> tokens) {
  const auto& matrix = static_cast<const ReferenceMatrix&>(table);
  Tensor out = scratch_.tensor(static_cast<int64_t>(tokens.size()), table.columns());
  for (int64_t r = 0; r < out.rows; ++r) {
    check(tokens[r] >= 0 && tokens[r] < table.rows(), "token outside the embedding table");
    std::copy_n(matrix.floats.data() + tokens[r] * table.columns(), out.columns, out.row(r));
  }
  return out;
}

Tensor ReferenceBackend::select_rows(const Tensor& x, std::span<const int32_t> rows) {
  Tensor out = scratch_.tensor(static_cast<int64_t>(rows.size()), x.columns);
  for (int64_t r = 0; r < out.rows; ++r) std::copy_n(x.row(rows[r]), out.columns, out.row(r));
  return out;
}

Activation ReferenceBackend::rms_norm(const Tensor& x, std::span<const float> weight, float eps) {
  const Activation out = make_activation(x.rows, x.columns);
  std::vector<float> row(x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    rms_norm_row(x.row(r), weight.data(), eps, x.columns, row.data());
    write_activation(out, r, row.data());
  }
  return out;
}

float ReferenceBackend::product(const Activation& x, int64_t x_row, const ReferenceMatrix& w,
                                int64_t w_row) const {
  if (arithmetic_ == Arithmetic::float32)
    return dot_float(w.floats.data() + w_row * w.columns(),
                     reinterpret_cast<const float*>(x.data + x_row * x.row_bytes), w.columns());
  const int32_t* weights = w.integers.data() + w_row * w.columns();
  const int16_t* values = integers_of(x, x_row);
  int64_t sum = 0;
  for (int64_t c = 0; c < w.columns(); ++c) sum += int64_t{weights[c]} * values[c];
  return static_cast<float>(static_cast<double>(sum)) * (w.scales[w_row] * scale_of(x, x_row));
}

Tensor ReferenceBackend::matmul(const Activation& x, const Matrix& w) {
  Tensor out = scratch_.tensor(x.rows, w.rows());
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t n = 0; n < w.rows(); ++n)
      out.row(r)[n] = product(x, r, static_cast<const ReferenceMatrix&>(w), n);
  return out;
}

void ReferenceBackend::matmul_add(Tensor& sum, const Activation& x, const Matrix& w) {
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t n = 0; n < w.rows(); ++n)
      sum.row(r)[n] += product(x, r, static_cast<const ReferenceMatrix&>(w), n);
}

Activation ReferenceBackend::gated_matmul(const Activation& x, const Matrix& gate_up) {
  const auto& w = static_cast<const ReferenceMatrix&>(gate_up);
  const int64_t columns = w.rows() / 2;
  const Activation out = make_activation(x.rows, columns);
  std::vector<float> row(columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t n = 0; n < columns; ++n)
      row[n] = silu_product(product(x, r, w, n), product(x, r, w, n + columns));
    write_activation(out, r, row.data());
  }
  return out;
}

void rotate(float* head, const RopeTable& rope, int64_t position) {
  const int64_t pairs = rope.rotary_dim / 2;
  const int64_t first = rope.pairs == RopePairs::adjacent ? 2 : 1;
  const int64_t second = rope.pairs == RopePairs::adjacent ? 1 : pairs;
  for (int64_t i = 0; i < pairs; ++i) {
    float &a = head[i * first], &b = head[i * first + second];
    const float c = rope.cosine[position * pairs + i], s = rope.sine[position * pairs + i];
    const float rotated = a * c - b * s;
    b = a * s + b * c;
    a = rotated;
  }
}

void store(PagedKvCache& cache, int64_t layer, int64_t head, int64_t block, int64_t offset, const float* key,
           const float* value) {
  if (cache.arithmetic() == Arithmetic::float32) return cache.store(layer, head, block, offset, key, value);
  uint16_t k[kHeadDimMax], v[kHeadDimMax];
  std::transform(key, key + cache.shape().head_dim, k, f32_to_bf16);
  std::transform(value, value + cache.shape().head_dim, v, f32_to_bf16);
  cache.store(layer, head, block, offset, k, v);
}

void ReferenceBackend::rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape,
                                      const Batch& batch, KvCache& cache, int64_t layer) {
  auto& paged = static_cast<PagedKvCache&>(cache);
  const int64_t heads = shape.num_attention_heads, kv_heads = shape.num_key_value_heads;
  for (const SequenceRows& sequence : batch.sequences)
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t position = sequence.first_position + i;
      float* row = qkv.row(sequence.first_row + i);
      for (int64_t h = 0; h < heads + kv_heads; ++h) rotate(row + h * shape.head_dim, rope, position);
      for (int64_t h = 0; h < kv_heads; ++h)
        store(paged, layer, h, sequence.block_table[position / kBlock], position % kBlock,
              row + (heads + h) * shape.head_dim, row + (heads + kv_heads + h) * shape.head_dim);
    }
}

// One query against one sequence's blocks.
struct Query {
  const float* q;  // (head_dim)
  int64_t position;
  const std::byte* tiles;
  std::span<const int32_t> block_table;
  float scale;
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

// Softmax over blocks of 32 positions in order, with a running maximum m and sum l; out is rescaled when m grows.
void attend_integer(const Query& query, const PagedKvCache& cache, float* out) {
  const int64_t head_dim = cache.shape().head_dim, padded = cache.padded_head_dim();
  std::vector<float> q(padded), sum(padded);
  for (int64_t d = 0; d < head_dim; ++d) q[d] = round_bf16(query.q[d]);
  float m = -std::numeric_limits<float>::infinity(), l = 0;
  for (int64_t b = 0; b <= query.position / kBlock; ++b) {
    const auto* k =
        reinterpret_cast<const uint16_t*>(query.tiles + query.block_table[b] * cache.block_bytes());
    const uint16_t* v = k + padded * kBlock;
    const int64_t visible = std::min(kBlock, query.position - b * kBlock + 1);
    float p[kBlock] = {}, largest = m;
    for (int64_t j = 0; j < visible; ++j) {
      float score = 0;
      for (int64_t d = 0; d < padded; d += 32)
        score += sum_of_32([&](int64_t i) { return q[d + i]; },
                           [&](int64_t i) { return bf16_to_f32(k[((d + i) / 2 * kBlock + j) * 2 + i % 2]); });
      p[j] = score * query.scale;
      largest = p[j] > largest ? p[j] : largest;
    }
    for (int64_t j = 0; j < visible; ++j) p[j] = exponential(p[j] - largest);
    float lanes[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) lanes[i] = p[i] + p[i + kLanes];
    const float correction = exponential(m - largest);
    l = l * correction + sum_lanes(lanes);
    m = largest;
    for (float& probability : p) probability = round_bf16(probability);
    for (int64_t d = 0; d < head_dim; ++d)
      sum[d] = sum[d] * correction +
               sum_of_32([&](int64_t i) { return p[i]; },
                         [&](int64_t i) { return bf16_to_f32(v[(i / 2 * padded + d) * 2 + i % 2]); });
  }
  for (int64_t d = 0; d < head_dim; ++d) out[d] = sum[d] / l;
}

// Softmax in two passes: all scores, then probabilities against their maximum.
void attend_float(const Query& query, const PagedKvCache& cache, float* out) {
  const int64_t head_dim = cache.shape().head_dim;
  const auto key = [&](int64_t position) {
    return reinterpret_cast<const float*>(query.tiles +
                                          query.block_table[position / kBlock] * cache.block_bytes()) +
           position % kBlock * head_dim;
  };
  std::vector<float> p(query.position + 1);
  float largest = -std::numeric_limits<float>::infinity(), lanes[kLanes] = {};
  for (int64_t j = 0; j <= query.position; ++j) {
    p[j] = dot_float(key(j), query.q, head_dim) * query.scale;
    largest = p[j] > largest ? p[j] : largest;
  }
  std::fill_n(out, head_dim, 0.0f);
  for (int64_t j = 0; j <= query.position; ++j) {
    p[j] = exponential(p[j] - largest);
    lanes[j % kLanes] += p[j];
    const float* value = key(j) + kBlock * head_dim;
    for (int64_t d = 0; d < head_dim; ++d) out[d] += p[j] * value[d];
  }
  const float l = sum_lanes(lanes);
  for (int64_t d = 0; d < head_dim; ++d) out[d] /= l;
}

Activation ReferenceBackend::attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                       const KvCache& cache, int64_t layer) {
  const auto& paged = static_cast<const PagedKvCache&>(cache);
  const int64_t heads = shape.num_attention_heads, group = heads / shape.num_key_value_heads;
  const Activation out = make_activation(qkv.rows, heads * shape.head_dim);
  std::vector<float> row(out.columns);
  for (const SequenceRows& sequence : batch.sequences)
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t r = sequence.first_row + i;
      for (int64_t h = 0; h < heads; ++h) {
        const Query query = {.q = qkv.row(r) + h * shape.head_dim,
                             .position = sequence.first_position + i,
                             .tiles = paged.tiles(layer, h / group),
                             .block_table = sequence.block_table,
                             .scale = shape.scale};
        (arithmetic_ == Arithmetic::integer ? attend_integer : attend_float)(query, paged,
                                                                             row.data() + h * shape.head_dim);
      }
      write_activation(out, r, row.data());
    }
  return out;
}

}  // namespace

std::unique_ptr<Backend> make_reference_backend(Arithmetic arithmetic) {
  return std::make_unique<ReferenceBackend>(arithmetic);
}

}  // namespace neutrino::compute
