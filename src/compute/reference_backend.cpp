// The definition of every operation: scalar, in order, one row after the other. What works row by row stands in
// HostBackend; the products, the embedding and the way into the cache stand here.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/attention_query.h"
#include "compute/backend.h"
#include "compute/host_backend.h"
#include "compute/integer_weights.h"

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
    float* row = floats.data() + floats.size() - columns_;
    dequantize_row(part.dtype, part.data + r * stride, columns_, row);
    for (int64_t c = 0; c < columns_; ++c) row[c] *= part.scale;
    if (arithmetic == Arithmetic::float32) continue;
    integer_row(part.dtype, part.data + r * stride, columns_, integer);
    scales.push_back(integer.scale * part.scale);
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

class ReferenceBackend final : public HostBackend {
 public:
  explicit ReferenceBackend(Arithmetic arithmetic) : HostBackend(arithmetic) {}
  std::string_view name() const override { return "reference"; }
  int64_t threads() const override { return 1; }

  std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) override {
    return named(std::make_unique<ReferenceMatrix>(parts, arithmetic_), parts);
  }
  std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) override {
    const WeightView parts[] = {gate, up};
    check(gate.rows == up.rows, "gate and up have the same number of rows");
    return named(std::make_unique<ReferenceMatrix>(parts, arithmetic_), parts);
  }
  std::unique_ptr<Matrix> load_embedding(const WeightView& table) override {
    return std::make_unique<ReferenceMatrix>(std::span(&table, 1), arithmetic_);
  }

  Tensor embed(const Matrix& table, std::span<const int32_t> tokens) override;
  void matmul_into(const Tensor& out, const Activation& x, const Matrix& w) override;
  void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) override;
  Activation gated_matmul(const Activation& x, const Matrix& gate_up, Function function) override;
  void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape, const Batch& batch,
                      KvCache& cache, int64_t layer) override;
  void parallel_for(int64_t count, void (*fn)(void*, int64_t), void* context) override {
    for (int64_t i = 0; i < count; ++i) fn(context, i);
  }

 private:
  Activation make_activation(int64_t rows, int64_t columns) override;
  void write_activation(const Activation& out, int64_t row, const float* values) const override;
  float product(const Activation& x, int64_t x_row, const ReferenceMatrix& w, int64_t w_row) const;
  void add_update(float* out, const Activation& x, int64_t row, const Matrix& w) const;
  void add_float_update(float* out, const Activation& x, int64_t row,
                        const HostAdapter::Product& update) const;
  void add_integer_update(float* out, const Activation& x, int64_t row,
                          const HostAdapter::Product& update) const;
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

void ReferenceBackend::matmul_into(const Tensor& out, const Activation& x, const Matrix& w) {
  check(out.rows == x.rows && out.columns == w.rows(), "matmul_into: the result has the product's shape");
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t n = 0; n < w.rows(); ++n)
      out.row(r)[n] = product(x, r, static_cast<const ReferenceMatrix&>(w), n);
  for (int64_t r = 0; r < x.rows; ++r) add_update(out.row(r), x, r, w);
}

void ReferenceBackend::matmul_add(Tensor& sum, const Activation& x, const Matrix& w) {
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t n = 0; n < w.rows(); ++n)
      sum.row(r)[n] += product(x, r, static_cast<const ReferenceMatrix&>(w), n);
  for (int64_t r = 0; r < x.rows; ++r) add_update(sum.row(r), x, r, w);
}

// out += B (A x), out being the product's row, if the row has an adapter that changes w.
void ReferenceBackend::add_update(float* out, const Activation& x, int64_t row, const Matrix& w) const {
  for (const AdapterRows& rows : adapter_rows()) {
    const HostAdapter::Product* update = rows.adapter->product(w.product());
    if (update == nullptr || row < rows.first_row || row >= rows.first_row + rows.rows) continue;
    arithmetic_ == Arithmetic::float32 ? add_float_update(out, x, row, *update)
                                       : add_integer_update(out, x, row, *update);
  }
}

void ReferenceBackend::add_float_update(float* out, const Activation& x, int64_t row,
                                        const HostAdapter::Product& update) const {
  std::vector<float> values(static_cast<size_t>(update.a.inner)), hidden(static_cast<size_t>(update.hidden));
  std::copy_n(reinterpret_cast<const float*>(x.data + row * x.row_bytes), x.columns, values.begin());
  for (int64_t n = 0; n < update.hidden; ++n) hidden[n] = lane_sum(update.a, n, values.data());
  for (const HostAdapter::Up& up : update.up)
    for (int64_t n = 0; n < up.rows; ++n) out[up.row + n] += lane_sum(up.b, n, hidden.data() + up.hidden);
}

void ReferenceBackend::add_integer_update(float* out, const Activation& x, int64_t row,
                                          const HostAdapter::Product& update) const {
  std::vector<int16_t> values(static_cast<size_t>(update.a.inner)), words(static_cast<size_t>(update.hidden));
  std::copy_n(integers_of(x, row), x.columns, values.begin());
  std::vector<float> hidden(static_cast<size_t>(update.hidden)), scales;
  for (int64_t n = 0; n < update.hidden; ++n)
    hidden[n] = lane_sum(update.a, n, values.data(), scale_of(x, row));
  for (const HostAdapter::Part& part : update.parts)
    scales.push_back(quantize_row(hidden.data() + part.hidden, part.terms, words.data() + part.hidden));
  for (const HostAdapter::Up& up : update.up)
    for (int64_t n = 0; n < up.rows; ++n)
      out[up.row + n] += lane_sum(up.b, n, words.data() + up.hidden, scales[up.part]);
}

Activation ReferenceBackend::gated_matmul(const Activation& x, const Matrix& gate_up, Function function) {
  const auto& w = static_cast<const ReferenceMatrix&>(gate_up);
  const int64_t columns = w.rows() / 2;
  const Activation out = make_activation(x.rows, columns);
  std::vector<float> row(columns), both(w.rows());
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t n = 0; n < w.rows(); ++n) both[n] = product(x, r, w, n);
    add_update(both.data(), x, r, w);
    for (int64_t n = 0; n < columns; ++n) row[n] = gate_product(function, both[n], both[n + columns]);
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
  if (!cache.has_bf16()) return cache.store(layer, head, block, offset, key, value);
  uint16_t k[kHeadDimMax], v[kHeadDimMax];
  std::transform(key, key + cache.layer(layer).key_dim, k, f32_to_bf16);
  std::transform(value, value + cache.layer(layer).value_dim, v, f32_to_bf16);
  cache.store(layer, head, block, offset, k, v);
}

void ReferenceBackend::rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape,
                                      const Batch& batch, KvCache& cache, int64_t layer) {
  auto& paged = static_cast<PagedKvCache&>(cache);
  check_shapes(qkv, shape, paged, layer);
  const int64_t heads = shape.num_attention_heads, kv_heads = shape.num_key_value_heads;
  for (const SequenceRows& sequence : batch.sequences)
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t position = sequence.first_position + i;
      float* row = qkv.row(sequence.first_row + i);
      for (int64_t h = 0; h < heads + kv_heads; ++h) rotate(row + h * shape.head_dim, rope, position);
      for (int64_t h = 0; h < kv_heads; ++h)
        store(paged, layer, h, block_table(sequence, paged.layer(layer))[position / kBlock],
              position % kBlock, row + (heads + h) * shape.head_dim,
              row + (heads + kv_heads) * shape.head_dim + h * value_dim(shape));
    }
}

}  // namespace

std::unique_ptr<Backend> make_reference_backend(Arithmetic arithmetic) {
  return std::make_unique<ReferenceBackend>(arithmetic);
}

}  // namespace neutrino::compute
