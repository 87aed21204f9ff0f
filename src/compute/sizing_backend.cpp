#include "compute/sizing_backend.h"

#include "base/checked.h"
#include "base/error.h"
#include "compute/integer_weights.h"

namespace neutrino::compute {
namespace {

class SizedMatrix final : public Matrix {
 public:
  SizedMatrix(int64_t rows, int64_t columns, int64_t bytes) : Matrix(rows, columns), bytes_(bytes) {}
  int64_t bytes() const override { return bytes_; }

 private:
  int64_t bytes_;
};

class SizedExperts final : public Experts {
 public:
  explicit SizedExperts(int64_t bytes) : bytes_(bytes) {}
  int64_t bytes() const override { return bytes_; }

 private:
  int64_t bytes_;
};

[[noreturn]] void computes_nothing() {
  check(false, "a sizing backend computes nothing");
  __builtin_unreachable();
}

class Sizing final : public SizingBackend {
 public:
  explicit Sizing(Arithmetic arithmetic) : arithmetic_(arithmetic) {}
  int64_t weight_bytes() const override { return total_; }
  std::string_view name() const override { return "sizing"; }
  Arithmetic arithmetic() const override { return arithmetic_; }
  int64_t threads() const override { return 1; }

  std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) override {
    int64_t rows = 0, bytes = 0;
    for (const WeightView& part : parts) rows += part.rows, bytes += held_bytes(part, arithmetic_);
    total_ += bytes;
    return std::make_unique<SizedMatrix>(rows, parts[0].columns, bytes);
  }
  std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) override {
    const WeightView parts[] = {gate, up};
    return load_matrix(parts);
  }
  std::unique_ptr<Matrix> load_embedding(const WeightView& table) override {
    return load_matrix({&table, 1});
  }
  std::unique_ptr<Experts> load_experts(const ExpertWeights& weights) override {
    int64_t bytes = 0;
    for (const auto* list : {&weights.gate, &weights.up, &weights.down})
      for (const WeightView& view : *list) bytes += held_bytes(view, arithmetic_);
    total_ += bytes;
    return std::make_unique<SizedExperts>(bytes);
  }
  void loaded() override {}
  std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape&) override { computes_nothing(); }
  void reserve(int64_t) override {}

  std::unique_ptr<Adapter> load_adapter(std::span<const LowRankUpdate>) override { computes_nothing(); }
  int64_t adapter_scratch_bytes(int64_t, int64_t) const override { computes_nothing(); }
  void begin_step(const Batch&) override { computes_nothing(); }
  int64_t scratch_mark() const override { computes_nothing(); }
  void scratch_release(int64_t) override { computes_nothing(); }
  Tensor embed(const Matrix&, std::span<const int32_t>) override { computes_nothing(); }
  Tensor select_rows(const Tensor&, std::span<const int32_t>) override { computes_nothing(); }
  Batch narrow(const Batch&, std::span<Tensor* const>) override { computes_nothing(); }
  Activation rms_norm(const Tensor&, std::span<const float>, float) override { computes_nothing(); }
  Activation layer_norm(const Tensor&, std::span<const float>, std::span<const float>, float) override {
    computes_nothing();
  }
  Activation activation(const Tensor&) override { computes_nothing(); }
  Tensor matmul(const Activation&, const Matrix&) override { computes_nothing(); }
  void matmul_into(const Tensor&, const Activation&, const Matrix&) override { computes_nothing(); }
  void matmul_add(Tensor&, const Activation&, const Matrix&) override { computes_nothing(); }
  Activation gated_matmul(const Activation&, const Matrix&, Function) override { computes_nothing(); }
  Tensor matmul_float(const Tensor&, std::span<const float>, int64_t) override { computes_nothing(); }
  Tensor zeros(int64_t, int64_t) override { computes_nothing(); }
  Tensor copy(const Tensor&) override { computes_nothing(); }
  void add(const Tensor&, const Tensor&) override { computes_nothing(); }
  void add_bias(const Tensor&, std::span<const float>) override { computes_nothing(); }
  void multiply(const Tensor&, const Tensor&) override { computes_nothing(); }
  void scale(const Tensor&, float) override { computes_nothing(); }
  void softcap(const Tensor&, float) override { computes_nothing(); }
  void apply(const Tensor&, Function) override { computes_nothing(); }
  void rms_normalize(const Tensor&, std::span<const float>, float) override { computes_nothing(); }
  void layer_normalize(const Tensor&, std::span<const float>, std::span<const float>, float) override {
    computes_nothing();
  }
  void rope_and_store(Tensor&, const RopeTable&, const AttentionShape&, const Batch&, KvCache&,
                      int64_t) override {
    computes_nothing();
  }
  Tensor attention_values(const Tensor&, const AttentionShape&, const Batch&, const KvCache&,
                          int64_t) override {
    computes_nothing();
  }
  Activation attention(const Tensor&, const AttentionShape&, const Batch&, const KvCache&, int64_t) override {
    computes_nothing();
  }
  Routing route(const Tensor&, const RouterShape&) override { computes_nothing(); }
  void experts_add(Tensor&, const Activation&, const Experts&, const Routing&) override {
    computes_nothing();
  }
  void causal_conv1d(const Tensor&, std::span<const float>, std::span<const float>, int64_t, const Batch&,
                     KvCache&, int64_t, int64_t) override {
    computes_nothing();
  }
  Tensor mamba2_scan(const Tensor&, const Tensor&, const Mamba2Shape&, const Batch&, KvCache&, int64_t,
                     int64_t) override {
    computes_nothing();
  }
  Tensor gated_delta_net(const Tensor&, const Tensor&, const Tensor&, const DeltaNetShape&, const Batch&,
                         KvCache&, int64_t, int64_t) override {
    computes_nothing();
  }
  void parallel_for(int64_t count, void (*fn)(void*, int64_t), void* context) override {
    for (int64_t i = 0; i < count; ++i) fn(context, i);
  }

 private:
  Arithmetic arithmetic_;
  int64_t total_ = 0;
};

// A panel is 16 rows in blocks of 32 columns (cpu/kernels.h): bytes of one.
int64_t block_bytes(WeightKind kind) {
  switch (kind) {
    case WeightKind::nibble:
    case WeightKind::code: return 320;
    case WeightKind::five: return 384;
    case WeightKind::six: return 424;
    case WeightKind::byte: return 576;
    case WeightKind::word: break;
  }
  return 1024;
}

}  // namespace

int64_t held_bytes(const WeightView& weights, Arithmetic arithmetic) {
  const int64_t blocks = ceil_div(weights.rows, 16) * ceil_div(weights.columns, 32);
  if (arithmetic == Arithmetic::float32) return blocks * 2048;
  return blocks * block_bytes(weight_kind(weights.dtype)) + weights.rows * 4;
}

std::unique_ptr<SizingBackend> make_sizing_backend(Arithmetic arithmetic) {
  return std::make_unique<Sizing>(arithmetic);
}

}  // namespace neutrino::compute
