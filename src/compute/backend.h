// The operations that a model is written in. The front door of this folder.
//
// Two arithmetics. `integer` (the normal one): activations are 15-bit integers with one scale a row, quantised weights are
// integers too, so a matrix product is an exact integer sum and no order of summation can change its bits; keys, values,
// queries and probabilities are bfloat16. `float32` (--exact): activations, cache and exponentials in float32, summed in 16
// fixed lanes. In both, a result depends on its own row alone: not on the other rows, the threads, or the chunking.
//
// ReferenceBackend is scalar and obvious, and defines every operation bit by bit; the CPU backend's kernel tables are
// compared with it.
//
// A backend belongs to one engine thread. What operations return lives in the backend's scratch until the next
// begin_step(); nothing in a step allocates after reserve().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "compute/batch.h"
#include "compute/tensor.h"

namespace neutrino::compute {

enum class Arithmetic { integer, float32 };

// Weights in the layout that a backend wants.
class Matrix {
 public:
  virtual ~Matrix() = default;
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  virtual int64_t bytes() const = 0;  // of memory held by this matrix itself (0 if it only views the file)

 protected:
  Matrix(int64_t rows, int64_t columns) : rows_(rows), columns_(columns) {}
  int64_t rows_, columns_;
};

struct KvCacheShape {
  int64_t num_hidden_layers = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t blocks = 0;  // of kBlockPositions positions each
};

// Storage of keys and values: for each layer, block and key/value head one tile of kBlockPositions positions.
// integer: bfloat16, K as [head_dim_padded/2][32 positions][2 dims], V as [32/2][head_dim_padded][2 positions], the padding
// (head_dim up to a multiple of 32) and unwritten positions zero. float32: K and V as [32 positions][head_dim].
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual int64_t bytes() const = 0;
  const KvCacheShape& shape() const { return shape_; }

 protected:
  explicit KvCache(const KvCacheShape& shape) : shape_(shape) {}
  KvCacheShape shape_;
};

// Bytes that one block takes over all layers, for sizing a cache.
int64_t kv_block_bytes(const KvCacheShape& shape, Arithmetic arithmetic);

// How a model's attention looks; the qkv rows are [q heads | k heads | v heads], each head_dim wide.
struct AttentionShape {
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;  // 1/sqrt(head_dim)
};

enum class RopePairs { adjacent, halves };  // (2i, 2i+1) as GGUF's llama; (i, i + n/2) as Hugging Face's

// cos and sin per (position, pair), computed once at load. Positions [0, rows).
struct RopeTable {
  std::span<const float> cosine, sine;  // (positions, rotary_dim / 2)
  int64_t positions = 0;
  int64_t rotary_dim = 0;  // <= head_dim; the rest passes through
  RopePairs pairs = RopePairs::adjacent;
};

struct BackendOptions {
  Arithmetic arithmetic = Arithmetic::integer;
  int64_t threads = 0;   // 0: one per core
  std::string isa = {};  // "", "generic", "avx2", "avx512"; "": NEUTRINO_ISA, else the best this CPU has
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;  // "reference", "cpu/avx512"
  virtual Arithmetic arithmetic() const = 0;
  virtual int64_t threads() const = 0;

  // ---- at load
  // The parts' rows, stacked (q, k, v; or one matrix). All parts have the same number of columns.
  virtual std::unique_ptr<Matrix> load_matrix(std::span<const WeightView> parts) = 0;
  // gate and up of a gated MLP, for gated_matmul().
  virtual std::unique_ptr<Matrix> load_gate_up(const WeightView& gate, const WeightView& up) = 0;
  virtual std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) = 0;
  // Scratch for the results of a step that are alive at once (Model::scratch_bytes). A Tensor takes 4 bytes an element, an
  // Activation at most 5 bytes an element and 256 a row; each is aligned to 64 bytes.
  virtual void reserve(int64_t scratch_bytes) = 0;

  // ---- in a step
  virtual void begin_step() = 0;             // forgets the last step's results
  virtual int64_t scratch_mark() const = 0;  // see ScratchScope
  virtual void scratch_release(int64_t mark) = 0;
  virtual Tensor embed(const Matrix& table,
                       std::span<const int32_t> tokens) = 0;  // (tokens, columns), dequantised rows
  virtual Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) = 0;
  // x / sqrt(mean(x^2) + eps) * weight, ready for products.
  virtual Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) = 0;
  virtual Tensor matmul(const Activation& x, const Matrix& w) = 0;                  // x W^T: (x.rows, w.rows)
  virtual void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) = 0;   // sum += x W^T
  virtual Activation gated_matmul(const Activation& x, const Matrix& gate_up) = 0;  // silu(x G^T) * (x U^T)
  // Rotates q (in place) and k, and writes k and v to the cache at the rows' positions.
  virtual void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape,
                              const Batch& batch, KvCache& cache, int64_t layer) = 0;
  // softmax(scale q K^T) V, causal, over the cache: (rows, num_attention_heads * head_dim), ready for products.
  virtual Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                               const KvCache& cache, int64_t layer) = 0;

  // Runs fn(i) for i in [0, count) on the compute threads and returns when all are done. No i may depend on another.
  virtual void parallel_for(int64_t count, void (*fn)(void* context, int64_t i), void* context) = 0;
};

// Gives back, at its end, the scratch that operations took since its beginning: one per layer keeps a step small.
class ScratchScope {
 public:
  explicit ScratchScope(Backend& backend) : backend_(backend), mark_(backend.scratch_mark()) {}
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;
  ~ScratchScope() { backend_.scratch_release(mark_); }

 private:
  Backend& backend_;
  int64_t mark_;
};

std::unique_ptr<Backend> make_reference_backend(Arithmetic arithmetic);
std::unique_ptr<Backend> make_cpu_backend(
    const BackendOptions& options);  // throws Error for an unknown or missing isa

// Kernel tables that this CPU can run, best first: {"avx512", "avx2", "generic"}.
std::span<const std::string_view> available_isas();

}  // namespace neutrino::compute
