#include "compute/host_backend.h"

#include <cstring>
#include <set>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/attention_query.h"

namespace neutrino::compute {

void HostBackend::begin_step(const Batch& batch) {
  scratch_.release(0);
  set_float_mode();
  set_adapter_rows(batch.sequences);
}

void HostBackend::set_adapter_rows(std::span<const SequenceRows> sequences) {
  adapter_rows_.clear();
  for (const SequenceRows& sequence : sequences) {
    if (sequence.adapter == nullptr) continue;
    const auto* adapter = static_cast<const HostAdapter*>(sequence.adapter);
    check(adapter->is_for(products_), "an adapter runs on the backend that loaded it");
    AdapterRows* last = adapter_rows_.empty() ? nullptr : &adapter_rows_.back();
    if (last && last->adapter == adapter && last->first_row + last->rows == sequence.first_row)
      last->rows += sequence.rows;
    else
      adapter_rows_.push_back({adapter, sequence.first_row, sequence.rows});
  }
}

// ---- adapters

void HostBackend::add_product(Matrix& matrix, std::span<const WeightView> parts) {
  ProductRows product{.columns = matrix.columns()};
  int64_t row = 0;
  bool named = false;
  for (const WeightView& part : parts) {
    product.sections.push_back({part.tensor, part.first_row, row, part.rows});
    row += part.rows;
    named = named || !part.tensor.empty();
  }
  if (!named) return;
  matrix.set_product(std::ssize(products_));
  products_.push_back(std::move(product));
}

std::unique_ptr<Adapter> HostBackend::load_adapter(std::span<const LowRankUpdate> updates) {
  return std::make_unique<HostAdapter>(updates, products_, arithmetic_);
}

// h of all rows, as floats and as integers, for as many tensors as one matrix is made of, and a few words about each sequence.
int64_t HostBackend::adapter_scratch_bytes(int64_t rows, int64_t rank) const {
  size_t tensors = 1;
  for (const ProductRows& product : products_) {
    std::set<std::string_view> names;
    for (const ProductSection& section : product.sections) names.insert(section.tensor);
    tensors = std::max(tensors, names.size());
  }
  const int64_t hidden = ceil_div(rank, kLanePanel) * kLanePanel * static_cast<int64_t>(tensors);
  constexpr auto kTermBytes = static_cast<int64_t>(sizeof(float) + sizeof(int16_t));
  return rows * (hidden * kTermBytes + static_cast<int64_t>(tensors * sizeof(float)) + 256);
}

Tensor HostBackend::select_rows(const Tensor& x, std::span<const int32_t> rows) {
  const Tensor out = scratch_.tensor(static_cast<int64_t>(rows.size()), x.columns);
  for (int64_t r = 0; r < out.rows; ++r) {
    check(rows[r] >= 0 && rows[r] < x.rows, "select_rows: a row that does not exist");
    std::copy_n(x.row(rows[r]), out.columns, out.row(r));
  }
  return out;
}

Batch HostBackend::narrow(const Batch& batch, std::span<Tensor* const> tensors) {
  const std::span<const int32_t> wanted = batch.output_rows;
  if (std::ssize(wanted) == tensors[0]->rows) return batch;
  const auto bytes = static_cast<int64_t>(wanted.size() * sizeof(SequenceRows));
  auto* const runs = reinterpret_cast<SequenceRows*>(scratch_.take(bytes));
  size_t count = 0, sequence = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    check(i == 0 || wanted[i] > wanted[i - 1], "narrow: the rows that are wanted ascend");
    const auto end = [&] { return batch.sequences[sequence].first_row + batch.sequences[sequence].rows; };
    while (sequence < batch.sequences.size() && wanted[i] >= end()) ++sequence;
    check(sequence < batch.sequences.size(), "narrow: a row that does not exist");
    const SequenceRows& of = batch.sequences[sequence];
    if (i > 0 && wanted[i] == wanted[i - 1] + 1 && wanted[i] > of.first_row) {
      ++runs[count - 1].rows;
      continue;
    }
    SequenceRows& run = runs[count++] = of;
    run.first_row = static_cast<int64_t>(i), run.rows = 1;
    run.first_position += wanted[i] - of.first_row;
  }
  for (Tensor* const x : tensors) {
    for (size_t i = 0; i < wanted.size(); ++i)
      if (wanted[i] != static_cast<int64_t>(i))
        std::copy_n(x->row(wanted[i]), x->columns, x->row(static_cast<int64_t>(i)));
    x->rows = std::ssize(wanted);
  }
  set_adapter_rows({runs, count});
  return {.sequences = {runs, count}};
}

// ---- norms and activations

void HostBackend::write_rows(const Tensor& x, const Activation& out) {
  for_rows(x.rows, [&](int64_t r) { write_activation(out, r, x.row(r)); }, cheap_rows_per_item(x.columns));
}

Activation HostBackend::activation(const Tensor& x) {
  const Activation out = make_activation(x.rows, x.columns);
  write_rows(x, out);
  return out;
}

Activation HostBackend::rms_norm(const Tensor& x, std::span<const float> weight, float eps) {
  check(static_cast<int64_t>(weight.size()) == x.columns, "a norm has one weight a column");
  const Activation out = make_activation(x.rows, x.columns);
  const int64_t mark = scratch_.mark();
  const Tensor normed = scratch_.tensor(x.rows, x.columns);
  for_rows(x.rows, [&](int64_t r) {
    rms_norm_values(x.row(r), weight.data(), eps, x.columns, normed.row(r));
    write_activation(out, r, normed.row(r));
  });
  scratch_.release(mark);
  return out;
}

void check_norm(const Tensor& x, std::span<const float> weight, std::span<const float> bias) {
  check(static_cast<int64_t>(weight.size()) == x.columns && (bias.empty() || bias.size() == weight.size()),
        "a norm has one weight and one bias a column");
}

Activation HostBackend::layer_norm(const Tensor& x, std::span<const float> weight,
                                   std::span<const float> bias, float eps) {
  check_norm(x, weight, bias);
  const Activation out = make_activation(x.rows, x.columns);
  const int64_t mark = scratch_.mark();
  const Tensor normed = scratch_.tensor(x.rows, x.columns);
  for_rows(x.rows, [&](int64_t r) {
    layer_norm_values(x.row(r), weight.data(), bias.empty() ? nullptr : bias.data(), eps, x.columns,
                      normed.row(r));
    write_activation(out, r, normed.row(r));
  });
  scratch_.release(mark);
  return out;
}

void HostBackend::rms_normalize(const Tensor& x, std::span<const float> weight, float eps) {
  const auto width = static_cast<int64_t>(weight.size());
  check(width > 0 && x.columns % width == 0, "a norm's weights cover the columns a whole number of times");
  for_rows(x.rows, [&](int64_t r) {
    for (int64_t c = 0; c < x.columns; c += width)
      rms_norm_values(x.row(r) + c, weight.data(), eps, width, x.row(r) + c);
  });
}

void HostBackend::layer_normalize(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                                  float eps) {
  check_norm(x, weight, bias);
  for_rows(x.rows, [&](int64_t r) {
    layer_norm_values(x.row(r), weight.data(), bias.empty() ? nullptr : bias.data(), eps, x.columns,
                      x.row(r));
  });
}

// ---- products

Tensor HostBackend::matmul(const Activation& x, const Matrix& w) {
  const Tensor out = scratch_.tensor(x.rows, w.rows());
  matmul_into(out, x, w);
  return out;
}

Tensor HostBackend::matmul_float(const Tensor& x, std::span<const float> w, int64_t rows) {
  check(static_cast<int64_t>(w.size()) == rows * x.columns,
        "matmul_float: w has the shape (rows, x.columns)");
  const Tensor out = scratch_.tensor(x.rows, rows);
  for_rows(x.rows, [&](int64_t r) {
    for (int64_t n = 0; n < rows; ++n)
      out.row(r)[n] = dot_float(w.data() + n * x.columns, x.row(r), x.columns);
  });
  return out;
}

// ---- row by row

Tensor HostBackend::zeros(int64_t rows, int64_t columns) {
  const Tensor out = scratch_.tensor(rows, columns);
  std::fill_n(out.data, rows * columns, 0.0f);
  return out;
}

Tensor HostBackend::copy(const Tensor& x) {
  const Tensor out = scratch_.tensor(x.rows, x.columns);
  for_rows(x.rows, [&](int64_t r) { std::copy_n(x.row(r), x.columns, out.row(r)); });
  return out;
}

void HostBackend::add(const Tensor& sum, const Tensor& x) {
  check(sum.rows == x.rows && sum.columns == x.columns, "add: both have one shape");
  for_rows(x.rows, [&](int64_t r) {
    float* const to = sum.row(r);
    const float* const from = x.row(r);
    for (int64_t c = 0; c < x.columns; ++c) to[c] += from[c];
  });
}

void HostBackend::add_bias(const Tensor& x, std::span<const float> bias) {
  check(static_cast<int64_t>(bias.size()) == x.columns, "add_bias: one value a column");
  for_rows(x.rows, [&](int64_t r) {
    float* const to = x.row(r);
    const float* const from = bias.data();
    for (int64_t c = 0; c < x.columns; ++c) to[c] += from[c];
  });
}

void HostBackend::multiply(const Tensor& x, const Tensor& y) {
  check(x.rows == y.rows && (y.columns == x.columns || y.columns == 1),
        "multiply: the factor has x's shape or one column");
  for_rows(x.rows, [&](int64_t r) {
    float* const to = x.row(r);
    const float* const factor = y.row(r);
    for (int64_t c = 0; c < x.columns; ++c) to[c] *= y.columns == 1 ? factor[0] : factor[c];
  });
}

void HostBackend::scale(const Tensor& x, float factor) {
  for_rows(x.rows, [&](int64_t r) {
    float* const to = x.row(r);
    for (int64_t c = 0; c < x.columns; ++c) to[c] *= factor;
  });
}

void HostBackend::softcap(const Tensor& x, float cap) {
  for_rows(x.rows, [&](int64_t r) { softcap_values(x.row(r), cap, x.columns); });
}

void HostBackend::apply(const Tensor& x, Function function) {
  check(function != Function::swiglu_oai, "swiglu_oai is a function of gate and up");
  for_rows(x.rows, [&](int64_t r) { apply_values(function, x.row(r), x.columns); });
}

// ---- single rows

void HostBackend::rms_norm_values(const float* x, const float* weight, float eps, int64_t n,
                                  float* out) const {
  rms_norm_row(x, weight, eps, n, out);
}
void HostBackend::layer_norm_values(const float* x, const float* weight, const float* bias, float eps,
                                    int64_t n, float* out) const {
  layer_norm_row(x, weight, bias, eps, n, out);
}
void HostBackend::apply_values(Function function, float* x, int64_t n) const {
  for (int64_t i = 0; i < n; ++i) x[i] = apply_function(function, x[i]);
}
void HostBackend::gate_values(Function function, const float* gate, const float* up, int64_t n,
                              float* out) const {
  for (int64_t i = 0; i < n; ++i) out[i] = gate_product(function, gate[i], up[i]);
}
void HostBackend::decay_state(const StateTask& task, float decay, const float* k, float* y) const {
  compute::decay_state(task, decay, k, y);
}
void HostBackend::update_state(const StateTask& task, const float* k, const float* u, const float* q,
                               float* y) const {
  compute::update_state(task, k, u, q, y);
}
void HostBackend::scan_state(const StateTask& task, const ScanInput& input, float* y) const {
  compute::scan_state(task, input, y);
}
void HostBackend::softcap_values(float* x, float cap, int64_t n) const {
  for (int64_t i = 0; i < n; ++i) x[i] = softcap_value(x[i], cap);
}

// ---- attention

Tensor HostBackend::attention_values(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                     const KvCache& cache, int64_t layer) {
  const auto& paged = static_cast<const PagedKvCache&>(cache);
  const int64_t heads = shape.num_attention_heads, width = value_dim(shape);
  check_shapes(qkv, shape, paged, layer);
  const Tensor out = scratch_.tensor(qkv.rows, heads * width);
  for (const SequenceRows& sequence : batch.sequences)
    for_each(sequence.rows * heads, [&](int64_t item) {
      const int64_t row = item / heads, head = item % heads, r = sequence.first_row + row;
      attend_query(shape, sequence, row, head, paged, layer, qkv.row(r) + head * shape.head_dim,
                   out.row(r) + head * width);
    });
  return out;
}

Activation HostBackend::attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                  const KvCache& cache, int64_t layer) {
  const Activation out = make_activation(qkv.rows, shape.num_attention_heads * value_dim(shape));
  const int64_t mark = scratch_.mark();
  write_rows(attention_values(qkv, shape, batch, cache, layer), out);
  scratch_.release(mark);
  return out;
}

}  // namespace neutrino::compute
