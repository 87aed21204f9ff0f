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
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compute/adapter.h"
#include "compute/batch.h"
#include "compute/function.h"
#include "compute/kv_type.h"
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
  int64_t product() const {
    return product_;
  }  // its number among those that adapters can change; -1: none can
  void set_product(int64_t product) { product_ = product; }

 protected:
  Matrix(int64_t rows, int64_t columns) : rows_(rows), columns_(columns) {}
  int64_t rows_, columns_, product_ = -1;
};

// One layer's keys and values.
struct KvLayer {
  int64_t num_key_value_heads = 0;
  int64_t key_dim = 0;    // of a key: AttentionShape::head_dim
  int64_t value_dim = 0;  // of a value
  int64_t window = 0;     // 0: every position is read; else position p reads those in (p - window, p] alone
};

struct KvCacheShape {
  std::vector<KvLayer> layers = {};  // those that attend; the operations count cache layers by this list
  int64_t blocks = 0;                // of kBlockPositions positions each
  // Absent: all layers stand in the same blocks. Else layers with a window are a group of their own: they have this many blocks,
  // and SequenceRows::window_table.
  int64_t window_blocks = 0;
  std::vector<int64_t> states =
      {};                      // floats of recurrent state of each layer that has one (Mamba2, delta net)
  int64_t state_slots = 0;     // each holds one sequence's states, or a snapshot of them
  KvType type = KvType::bf16;  // in integer arithmetic
};

// Whose blocks hold the layer: 0, those of SequenceRows::block_table, or 1, those of its window_table.
inline int64_t kv_group(const KvCacheShape& shape, const KvLayer& layer) {
  return shape.window_blocks > 0 && layer.window > 0 ? 1 : 0;
}

// The same keys and values in every layer.
KvCacheShape uniform_kv_cache(int64_t layers, int64_t num_key_value_heads, int64_t head_dim, int64_t blocks);

// Storage of keys and values: for each layer, block and key/value head one tile of kBlockPositions positions.
// integer: K as [key_dim_padded/2][32 positions][2 dims], V as [32/2][value_dim_padded][2 positions], the padding (up to a
// multiple of 32) and unwritten positions zero; in q8_0 the scales behind each: [dim_padded/32][32 positions]. float32: K and V
// as [32 positions][dim].
// Beside them the recurrent states: float32 in both arithmetics, `state_slots` times all layers' states in a row.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual int64_t bytes() const = 0;
  virtual void clear_state(int32_t slot) = 0;             // zeros: before a sequence's first token
  virtual void copy_state(int32_t from, int32_t to) = 0;  // to take a snapshot and to resume from one
  // Keys and values of all layers of a group of layers.
  virtual void copy_block(int64_t group, int32_t from, int32_t to) = 0;
  const KvCacheShape& shape() const { return shape_; }

 protected:
  explicit KvCache(const KvCacheShape& shape) : shape_(shape) {}
  KvCacheShape shape_;
};

// Bytes that one block takes over all layers of its group, and one state slot, for sizing a cache.
int64_t kv_block_bytes(const KvCacheShape& shape, Arithmetic arithmetic, int64_t group = 0);
int64_t state_slot_bytes(const KvCacheShape& shape);

// How a layer's attention looks; the qkv rows are [q heads | k heads | v heads], q and k head_dim wide, v value_dim wide.
struct AttentionShape {
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;        // 1/sqrt(head_dim)
  int64_t value_dim = 0;  // 0: head_dim
  int64_t window = 0;     // 0: none; else query q sees key k only if |q - k| < window
  bool causal =
      true;  // false: a sequence's rows see each other, before and behind; they stand in one batch, whole
  float softcap = 0;  // c > 0: scaled scores become c tanh(score / c)
  std::span<const float> sinks =
      {};  // (num_attention_heads): a logit beside the scores whose probability goes nowhere
};

enum class RopePairs { adjacent, halves };  // (2i, 2i+1) as GGUF's llama; (i, i + n/2) as Hugging Face's

// cos and sin per (position, pair), computed once at load. Positions [0, rows).
struct RopeTable {
  std::span<const float> cosine, sine;  // (positions, rotary_dim / 2)
  int64_t positions = 0;
  int64_t rotary_dim = 0;  // <= head_dim; the rest passes through. 0: nothing rotates
  RopePairs pairs = RopePairs::adjacent;
};

// ---- mixtures of experts
enum class Gating : uint8_t { softmax, sigmoid, softmax_of_selected };
enum class GroupScore : uint8_t { sum_of_two, largest };

// How a router chooses (spec: the authors' code). p = gating(logits); experts are selected by p + bias; with groups, only
// from the groups_used groups of the highest score; ties go to the lower index. Weights are p of the selected, divided by
// max(their sum, weights_min) if `normalize`, times `scale`.
struct RouterShape {
  int64_t experts = 0, experts_used = 0;
  Gating gating = Gating::softmax;
  std::span<const float> bias = {};  // (experts), or empty
  int64_t groups = 1, groups_used = 1;
  GroupScore group_score = GroupScore::sum_of_two;
  bool normalize = false;
  float weights_min = 0;
  float scale = 1;
};

// Who computes which row: row r goes to experts[r * used + i] with weights[r * used + i], i < used, best first. In scratch.
struct Routing {
  int64_t rows = 0, used = 0;
  int32_t* experts = nullptr;
  float* weights = nullptr;
};

// The weights of one layer's experts as they stand in the file, one view an expert. down(f(gate x) * (up x)), or without
// `gate` down(f(up x)).
struct ExpertWeights {
  std::vector<WeightView> gate, up, down;
  Function function = Function::silu;
  std::span<const float> gate_bias = {}, up_bias = {};  // (experts, intermediate), or empty
  std::span<const float> down_bias = {};                // (experts, hidden), or empty
};

class Experts {
 public:
  virtual ~Experts() = default;
  virtual int64_t bytes() const = 0;
};

// ---- recurrent layers
// Mamba2 (Dao and Gu 2024): the rows of xbc are [x: heads * head_dim | B: groups * state_size | C: groups * state_size].
struct Mamba2Shape {
  int64_t heads = 0, head_dim = 0, groups = 0, state_size = 0;
  std::span<const float> a;                     // (heads): -exp(A_log)
  std::span<const float> d;                     // (heads)
  std::span<const float> dt_bias;               // (heads)
  float dt_min = 0, dt_max = __builtin_inff();  // dt = clamp(softplus(dt + dt_bias))
  int64_t state_floats() const { return heads * head_dim * state_size; }
};

// Gated delta net (Yang et al. 2024): the rows of qkv are [q: key_heads * key_dim | k: the same | v: value_heads * value_dim].
// Value head h uses key head h % key_heads (GGUF's order of heads).
struct DeltaNetShape {
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  std::span<const float> a;        // (value_heads): -exp(A_log)
  std::span<const float> dt_bias;  // (value_heads)
  int64_t state_floats() const { return value_heads * key_dim * value_dim; }
};

struct BackendOptions {
  Arithmetic arithmetic = Arithmetic::integer;
  int64_t threads = 0;  // 0: one per core
  std::string isa =
      {};  // "", "generic", "avx2", "avx512", "amx"; "": NEUTRINO_ISA, else the best this CPU has
  // A file for this model's repacked weights: read if it is there and fits, else written after loaded(). Empty: none.
  std::filesystem::path weight_cache = {};
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
  // A table for embed(), which also serves products (a tied head). Keeps the view, and with it the view's owner.
  virtual std::unique_ptr<Matrix> load_embedding(const WeightView& table) = 0;
  virtual std::unique_ptr<Experts> load_experts(const ExpertWeights& weights) = 0;
  virtual void loaded() = 0;  // all weights are
  // Behind loaded(), on any thread, also while a step runs. The matrices of load_matrix() and load_gate_up() can be changed, by
  // the names of their views. Throws Error that names a tensor which is not there or has another shape.
  virtual std::unique_ptr<Adapter> load_adapter(std::span<const LowRankUpdate> updates) = 0;
  // What reserve() needs beside a model's scratch, for steps of so many rows with adapters of this rank.
  virtual int64_t adapter_scratch_bytes(int64_t rows, int64_t rank) const = 0;
  virtual std::unique_ptr<KvCache> make_kv_cache(const KvCacheShape& shape) = 0;
  // Scratch for the results of a step that are alive at once (Model::scratch_bytes). A Tensor takes 4 bytes an element, an
  // Activation at most 7 bytes an element and 512 a row; each is aligned to 64 bytes.
  virtual void reserve(int64_t scratch_bytes) = 0;

  // ---- in a step
  // Forgets the last step's results. Products with activations of the batch's rows add what the rows' adapters say.
  virtual void begin_step(const Batch& batch) = 0;
  virtual int64_t scratch_mark() const = 0;  // see ScratchScope
  virtual void scratch_release(int64_t mark) = 0;
  virtual Tensor embed(const Matrix& table,
                       std::span<const int32_t> tokens) = 0;  // (tokens, columns), dequantised rows
  virtual Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) = 0;
  // From here on the step goes on with the rows alone whose logits are wanted: moves them to the front of these tensors, which
  // forget the others. Returns their batch: its sequences, in the step's scratch, are the runs of rows at consecutive
  // positions. Where all rows are wanted: the batch itself.
  virtual Batch narrow(const Batch& batch, std::span<Tensor* const> tensors) = 0;
  // x / sqrt(mean(x^2) + eps) * weight, ready for products.
  virtual Activation rms_norm(const Tensor& x, std::span<const float> weight, float eps) = 0;
  virtual Activation layer_norm(
      const Tensor& x, std::span<const float> weight, std::span<const float> bias,
      float eps) = 0;  // (x - mean) / sqrt(variance + eps) * weight + bias; bias may be empty
  virtual Activation activation(const Tensor& x) = 0;               // x itself, ready for products
  virtual Tensor matmul(const Activation& x, const Matrix& w) = 0;  // x W^T: (x.rows, w.rows)
  virtual void matmul_into(const Tensor& out, const Activation& x,
                           const Matrix& w) = 0;  // out = x W^T; out may be a slice
  virtual void matmul_add(Tensor& sum, const Activation& x, const Matrix& w) = 0;  // sum += x W^T
  virtual Activation gated_matmul(const Activation& x, const Matrix& gate_up,
                                  Function function = Function::silu) = 0;  // f(x G^T) * (x U^T)
  // x W^T in float32 in both arithmetics, for small matrices that decide something (routers). w: (rows, x.columns).
  virtual Tensor matmul_float(const Tensor& x, std::span<const float> w, int64_t rows) = 0;

  // ---- row by row. Tensors may be slices of columns (columns()); what is changed is the first argument.
  virtual Tensor zeros(int64_t rows, int64_t columns) = 0;
  virtual Tensor copy(const Tensor& x) = 0;
  virtual void add(const Tensor& sum, const Tensor& x) = 0;
  virtual void add_bias(const Tensor& x, std::span<const float> bias) = 0;
  virtual void multiply(const Tensor& x, const Tensor& y) = 0;  // y has x's columns, or one: a factor a row
  virtual void scale(const Tensor& x, float factor) = 0;
  virtual void softcap(const Tensor& x, float cap) = 0;        // cap tanh(x / cap)
  virtual void apply(const Tensor& x, Function function) = 0;  // not swiglu_oai
  virtual void rms_normalize(
      const Tensor& x, std::span<const float> weight,
      float eps) = 0;  // each run of weight.size() columns (one head, or the whole row) by itself
  virtual void layer_normalize(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                               float eps) = 0;

  // ---- attention. `layer` counts in KvCacheShape::layers.
  // Rotates q (in place) and k, and writes k and v to the cache at the rows' positions.
  virtual void rope_and_store(Tensor& qkv, const RopeTable& rope, const AttentionShape& shape,
                              const Batch& batch, KvCache& cache, int64_t layer) = 0;
  // softmax(scale q K^T) V over the cache: (rows, num_attention_heads * value_dim).
  virtual Tensor attention_values(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                                  const KvCache& cache, int64_t layer) = 0;
  // The same, ready for products.
  virtual Activation attention(const Tensor& qkv, const AttentionShape& shape, const Batch& batch,
                               const KvCache& cache, int64_t layer) = 0;

  // ---- mixtures of experts
  virtual Routing route(const Tensor& logits, const RouterShape& router) = 0;
  // sum += the routed experts' results, each row's in the order of its routing.
  virtual void experts_add(Tensor& sum, const Activation& x, const Experts& experts,
                           const Routing& routing) = 0;

  // ---- recurrent layers. `layer` counts in KvCacheShape::states; a sequence's state stands in its slot
  // (SequenceRows::state_slot) and is updated token by token, in one order however the rows are batched.
  // x[t][c] = silu(bias[c] + sum over k of weight[c][k] x[t - kernel + 1 + k][c]), in place. The state at `state_offset`
  // holds the kernel - 1 inputs before: (kernel - 1, channels) floats. bias may be empty.
  virtual void causal_conv1d(const Tensor& x, std::span<const float> weight, std::span<const float> bias,
                             int64_t kernel, const Batch& batch, KvCache& cache, int64_t layer,
                             int64_t state_offset) = 0;
  // S = exp(dt A) S + dt x B^T;  y = S C + D x: (rows, heads * head_dim). dt: (rows, heads), before bias and softplus.
  virtual Tensor mamba2_scan(const Tensor& xbc, const Tensor& dt, const Mamba2Shape& shape,
                             const Batch& batch, KvCache& cache, int64_t layer, int64_t state_offset) = 0;
  // q and k are l2-normalised here (eps 1e-6), q scaled by 1/sqrt(key_dim). beta: (rows, value_heads), before its sigmoid;
  // alpha: the same shape, g = a softplus(alpha + dt_bias).
  // S = exp(g) S;  u = sigmoid(beta) (v - S^T k);  S = S + k u^T;  y = S^T q: (rows, value_heads * value_dim).
  virtual Tensor gated_delta_net(const Tensor& qkv, const Tensor& alpha, const Tensor& beta,
                                 const DeltaNetShape& shape, const Batch& batch, KvCache& cache,
                                 int64_t layer, int64_t state_offset) = 0;

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

// Kernel tables that this CPU can run, best first: {"amx", "avx512", "avx2", "generic"}.
std::span<const std::string_view> available_isas();

}  // namespace neutrino::compute
