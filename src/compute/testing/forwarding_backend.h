// Every operation handed on to another backend: a test derives from it to change one.
#pragma once

#include "compute/backend.h"

namespace neutrino::compute::testing {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  Arithmetic arithmetic() const override { return inner_.arithmetic(); }
  int64_t threads() const override { return inner_.threads(); }
  std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) override {
    return inner_.load_matrix(parts);
  }
  std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) override {
    return inner_.load_gate_up(gate, up);
  }
  std::unique_ptr<Matrix> load_embedding(const WeightView& table) override {
    return inner_.load_embedding(table);
  }
  std::unique_ptr<Experts> load_experts(const ExpertWeights& weights) override {
    return inner_.load_experts(weights);
  }
  void loaded() override { inner_.loaded(); }
  std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) override {
    return inner_.make_kv_cache(shape);
  }
  void reserve(int64_t scratch_bytes) override { return inner_.reserve(scratch_bytes); }
  std::unique_ptr<Adapter> load_adapter(std::span<const LowRankUpdate> updates) override {
    return inner_.load_adapter(updates);
  }
  int64_t adapter_scratch_bytes(int64_t rows, int64_t rank) const override {
    return inner_.adapter_scratch_bytes(rows, rank);
  }
  void begin_step(const Batch& batch) override { return inner_.begin_step(batch); }
  int64_t scratch_mark() const override { return inner_.scratch_mark(); }
  void scratch_release(int64_t mark) override { return inner_.scratch_release(mark); }
  Tensor embed(const Matrix& table, std::span<const int32_t> tokens) override {
    return inner_.embed(table, tokens);
  }
  Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) override {
    return inner_.select_rows(x, rows);
  }
  Batch narrow(const Batch& batch, std::span<Tensor* const> tensors) override {
    return inner_.narrow(batch, tensors);
  }
  Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) override {
    return inner_.rms_norm(x, weight, eps);
  }
  Activation layer_norm(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                        float eps) override {
    return inner_.layer_norm(x, weight, bias, eps);
  }
  Activation activation(const Tensor& x) override { return inner_.activation(x); }
  Tensor matmul(const Activation& x, const Matrix& w) override { return inner_.matmul(x, w); }
  void matmul_into(const Tensor& out, const Activation& x, const Matrix& w) override {
    return inner_.matmul_into(out, x, w);
  }
  void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) override {
    return inner_.matmul_add(sum, x, w);
  }
  Activation gated_matmul(const Activation& x, const Matrix& gate_up, Function function) override {
    return inner_.gated_matmul(x, gate_up, function);
  }
  Tensor matmul_float(const Tensor& x, std::span<const float> w, int64_t rows) override {
    return inner_.matmul_float(x, w, rows);
  }
  Tensor zeros(int64_t rows, int64_t columns) override { return inner_.zeros(rows, columns); }
  Tensor copy(const Tensor& x) override { return inner_.copy(x); }
  void add(const Tensor& sum, const Tensor& x) override { return inner_.add(sum, x); }
  void add_bias(const Tensor& x, std::span<const float> bias) override { return inner_.add_bias(x, bias); }
  void multiply(const Tensor& x, const Tensor& y) override { return inner_.multiply(x, y); }
  void scale(const Tensor& x, float factor) override { return inner_.scale(x, factor); }
  void softcap(const Tensor& x, float cap) override { return inner_.softcap(x, cap); }
  void apply(const Tensor& x, Function function) override { return inner_.apply(x, function); }
  void rms_normalize(const Tensor& x, std::span<const float> weight, float eps) override {
    return inner_.rms_normalize(x, weight, eps);
  }
  void layer_normalize(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                       float eps) override {
    return inner_.layer_normalize(x, weight, bias, eps);
  }
  void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape, const Batch& batch,
                      KvCache& cache, int64_t layer) override {
    return inner_.rope_and_store(qkv, rope, shape, batch, cache, layer);
  }
  Tensor attention_values(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                          const KvCache& cache, int64_t layer) override {
    return inner_.attention_values(qkv, shape, batch, cache, layer);
  }
  Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                       const KvCache& cache, int64_t layer) override {
    return inner_.attention(qkv, shape, batch, cache, layer);
  }
  Routing route(const Tensor& logits, const RouterShape& router) override {
    return inner_.route(logits, router);
  }
  void experts_add(Tensor& sum, const Activation& x, const Experts& experts,
                   const Routing& routing) override {
    return inner_.experts_add(sum, x, experts, routing);
  }
  void causal_conv1d(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                     int64_t kernel, const Batch& batch, KvCache& cache, int64_t layer,
                     int64_t state_offset) override {
    return inner_.causal_conv1d(x, weight, bias, kernel, batch, cache, layer, state_offset);
  }
  Tensor mamba2_scan(const Tensor& xbc, const Tensor& dt, const Mamba2Shape& shape, const Batch& batch,
                     KvCache& cache, int64_t layer, int64_t state_offset) override {
    return inner_.mamba2_scan(xbc, dt, shape, batch, cache, layer, state_offset);
  }
  Tensor gated_delta_net(const Tensor& qkv, const Tensor& alpha, const Tensor& beta,
                         const DeltaNetShape& shape, const Batch& batch, KvCache& cache, int64_t layer,
                         int64_t state_offset) override {
    return inner_.gated_delta_net(qkv, alpha, beta, shape, batch, cache, layer, state_offset);
  }
  void parallel_for(int64_t count, void (*fn)(void* context, int64_t i), void* context) override {
    return inner_.parallel_for(count, fn, context);
  }

 protected:
  Backend& inner_;
};

}  // namespace neutrino::compute::testing
