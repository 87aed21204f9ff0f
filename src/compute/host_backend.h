// What every backend on the host's processor shares: scratch, the cache, and all operations that work row by row, head by
// head or expert by expert, in scalar code whose loops parallel_for() spreads. A derived backend adds the products and what
// it does faster. As both the reference and the CPU backend run this code, an operation here has one definition.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "compute/backend.h"
#include "compute/host_adapter.h"
#include "compute/paged_kv_cache.h"
#include "compute/scratch.h"
#include "compute/state_task.h"

namespace neutrino::compute {

class HostBackend : public Backend {
 public:
  Arithmetic arithmetic() const override { return arithmetic_; }
  std::unique_ptr<Experts> load_experts(const ExpertWeights& weights) override;
  void loaded() override {}
  std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) override {
    return std::make_unique<PagedKvCache>(shape, arithmetic_);
  }
  // Twice what the caller counts: an operation's temporary is at most as large as its result.
  void reserve(int64_t scratch_bytes) override { scratch_.reserve(2 * scratch_bytes + kScratchSlack); }

  std::unique_ptr<Adapter> load_adapter(std::span<const LowRankUpdate> updates) override;
  int64_t adapter_scratch_bytes(int64_t rows, int64_t rank) const override;
  void begin_step(const Batch& batch) override;
  int64_t scratch_mark() const override { return scratch_.mark(); }
  void scratch_release(int64_t mark) override { scratch_.release(mark); }

  Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) override;
  Batch narrow(const Batch& batch, std::span<Tensor* const> tensors) override;
  Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) override;
  Activation layer_norm(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                        float eps) override;
  Activation activation(const Tensor& x) override;
  Tensor matmul(const Activation& x, const Matrix& w) override;
  Tensor matmul_float(const Tensor& x, std::span<const float> w, int64_t rows) override;

  Tensor zeros(int64_t rows, int64_t columns) override;
  Tensor copy(const Tensor& x) override;
  void add(const Tensor& sum, const Tensor& x) override;
  void add_bias(const Tensor& x, std::span<const float> bias) override;
  void multiply(const Tensor& x, const Tensor& y) override;
  void scale(const Tensor& x, float factor) override;
  void softcap(const Tensor& x, float cap) override;
  void apply(const Tensor& x, Function function) override;
  void rms_normalize(const Tensor& x, std::span<const float> weight, float eps) override;
  void layer_normalize(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                       float eps) override;

  Tensor attention_values(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                          const KvCache& cache, int64_t layer) override;
  Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                       const KvCache& cache, int64_t layer) override;

  Routing route(const Tensor& logits, const RouterShape& router) override;
  void experts_add(Tensor& sum, const Activation& x, const Experts& experts, const Routing& routing) override;

  void causal_conv1d(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                     int64_t kernel, const Batch& batch, KvCache& cache, int64_t layer,
                     int64_t state_offset) override;
  Tensor mamba2_scan(const Tensor& xbc, const Tensor& dt, const Mamba2Shape& shape, const Batch& batch,
                     KvCache& cache, int64_t layer, int64_t state_offset) override;
  Tensor gated_delta_net(const Tensor& qkv, const Tensor& alpha, const Tensor& beta,
                         const DeltaNetShape& shape, const Batch& batch, KvCache& cache, int64_t layer,
                         int64_t state_offset) override;

 protected:
  explicit HostBackend(Arithmetic arithmetic) : arithmetic_(arithmetic) {}

  // Makes the matrix known to adapters, by the names of the views that it was made of.
  template <typename M>
  std::unique_ptr<M> named(std::unique_ptr<M> matrix, std::span<const WeightView> parts) {
    add_product(*matrix, parts);
    return matrix;
  }
  std::span<const AdapterRows> adapter_rows() const { return adapter_rows_; }  // of this step
  void set_adapter_rows(std::span<const SequenceRows> sequences);

  // Room for rows in the form that the products read, and one row's way there.
  virtual Activation make_activation(int64_t rows, int64_t columns) = 0;
  virtual void write_activation(const Activation& out, int64_t row, const float* values) const = 0;

  // Single rows, in arithmetic.h's definitions; a derived backend may have the same bits faster.
  virtual void rms_norm_values(const float* x, const float* weight, float eps, int64_t n, float* out) const;
  virtual void layer_norm_values(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                                 float* out) const;  // bias may be null
  virtual void apply_values(Function function, float* x, int64_t n) const;
  virtual void gate_values(Function function, const float* gate, const float* up, int64_t n,
                           float* out) const;
  virtual void softcap_values(float* x, float cap, int64_t n) const;
  virtual void decay_state(const StateTask& task, float decay, const float* k, float* y) const;
  virtual void update_state(const StateTask& task, const float* k, const float* u, const float* q,
                            float* y) const;
  virtual void scan_state(const StateTask& task, const ScanInput& input, float* y) const;

  // f(i) for i in [0, count) on the compute threads.
  template <typename F>
  void for_each(int64_t count, F f) {
    parallel_for(count, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &f);
  }
  static constexpr int64_t kRowsPerItem = 4;
  // Of an operation that takes about a nanosecond a value: an item shall outlast the call of another thread.
  static constexpr int64_t cheap_rows_per_item(int64_t columns) {
    return std::max<int64_t>(kRowsPerItem, 8192 / std::max<int64_t>(1, columns));
  }
  // f(row), some rows an item.
  template <typename F>
  void for_rows(int64_t rows, F f, int64_t rows_per_item = kRowsPerItem) {
    for_each((rows + rows_per_item - 1) / rows_per_item, [&](int64_t item) {
      const int64_t end = std::min(rows, (item + 1) * rows_per_item);
      for (int64_t row = item * rows_per_item; row < end; ++row) f(row);
    });
  }
  void run_expert(const Experts& experts, int64_t expert, const Activation& x, std::span<const int32_t> slots,
                  int64_t used, const Tensor& results);
  // Writes x's rows as an activation.
  void write_rows(const Tensor& x, const Activation& out);

  static constexpr int64_t kScratchSlack = 1 << 20;

  Arithmetic arithmetic_;
  Scratch scratch_;

 private:
  void add_product(Matrix& matrix, std::span<const WeightView> parts);

  std::vector<ProductRows> products_;  // by Matrix::product()
  std::vector<AdapterRows> adapter_rows_;
};

// Where a recurrent operation finds one sequence's state.
float* sequence_state(KvCache& cache, const SequenceRows& sequence, int64_t layer, int64_t offset,
                      int64_t floats);

}  // namespace neutrino::compute
