// What the kernels reach on this machine: products by shape and rows, all operations of a forward pass of SmolLM2-135M's
// shape on random weights (q4_1 body or --type, q8_0 tied head), and of all-MiniLM-L6-v2's (f32), an encoder.
//
//   compute_bench [--isa avx2] [--threads 2] [--seconds 0.3] [--float32] [--type q4_k] [--forward | --encoder | --attention]
//                 [--kv q8_0]
//
// Times are the best of the repetitions: neighbours on the machine only ever add; with --threads 1 they are CPU times.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <functional>
#include <map>
#include <string>

#include "base/error.h"
#include "compute/test_support.h"
#include "fma_rate.h"

namespace neutrino::compute {
namespace {

using testing::OwnedMatrix;

struct Options {
  BackendOptions backend;
  double seconds = 0.3;
};

// With one thread the time that this thread ran, which a busy machine disturbs least.
double now(const Options& options) {
  timespec time;
  clock_gettime(options.backend.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double best_seconds(const Options& options, double budget, const std::function<void()>& fn) {
  double best = 1e9;
  const double begin = now(options);
  for (int i = 0; i < 3 || now(options) - begin < budget; ++i) {
    const double start = now(options);
    fn();
    best = std::min(best, now(options) - start);
  }
  return best;
}

// Enough copies of the matrix that they stream from memory, as a model's layers do.
void bench_products(Backend& backend, const Options& options, DType dtype, int64_t rows, int64_t columns) {
  const OwnedMatrix weights = testing::random_matrix(dtype, rows, columns, 1);
  const int64_t copies = std::max<int64_t>(1, (64 << 20) / static_cast<int64_t>(weights.bytes.size()));
  std::vector<std::unique_ptr<Matrix>> matrices;
  for (int64_t i = 0; i < copies; ++i) matrices.push_back(backend.load_matrix({&weights.view, 1}));
  const std::vector<float> norm(static_cast<size_t>(columns), 1.0f);
  for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 128, 512}) {
    std::vector<float> x = testing::random_floats(m * columns, 2);
    backend.begin_step({});
    const Activation activation = backend.rms_norm(testing::view_of(x, m, columns), norm, 1e-5f);
    const double seconds = best_seconds(options, options.seconds, [&] {
      for (const auto& matrix : matrices) {
        const ScratchScope scope(backend);
        backend.matmul(activation, *matrix);
      }
    });
    const double bytes = static_cast<double>(matrices[0]->bytes() * copies);
    const double operations = 2.0 * static_cast<double>(m * rows * columns * copies);
    fmt::print("{:5} {:5}x{:<5} M={:<4} {:7.1f} us  {:6.1f} GB/s  {:6.3f} TOP/s\n", dtype_info(dtype).name,
               rows, columns, m, seconds / static_cast<double>(copies) * 1e6, bytes / seconds / 1e9,
               operations / seconds / 1e12);
  }
}

// SmolLM2-135M.
constexpr int64_t kHidden = 576, kIntermediate = 1536, kLayers = 30, kVocabulary = 49152;
constexpr AttentionShape kAttention = {
    .num_attention_heads = 9, .num_key_value_heads = 3, .head_dim = 64, .scale = 0.125f};
constexpr int64_t kContext = 2560;

struct Layer {
  std::unique_ptr<Matrix> qkv, output, gate_up, down;
};

class Model {
 public:
  Model(Backend& backend, DType body, int64_t sequences_max)
      : backend_(backend),
        rope_(testing::rope_values(kContext, 64, RopePairs::adjacent)),
        norm_(kHidden, 1.0f),
        embedding_(testing::random_matrix(DType::q8_0, kVocabulary, kHidden, 1)),
        head_(backend.load_embedding(embedding_.view)) {
    const OwnedMatrix qkv = testing::random_matrix(body, 960, kHidden, 2),
                      output = testing::random_matrix(body, kHidden, kHidden, 3),
                      gate = testing::random_matrix(body, kIntermediate, kHidden, 4),
                      down = testing::random_matrix(body, kHidden, kIntermediate, 5);
    for (int64_t i = 0; i < kLayers; ++i)
      layers_.push_back({backend.load_matrix({&qkv.view, 1}), backend.load_matrix({&output.view, 1}),
                         backend.load_gate_up(gate.view, gate.view), backend.load_matrix({&down.view, 1})});
    const int64_t blocks = kContext / kBlockPositions;
    cache_ = backend.make_kv_cache(uniform_kv_cache(kLayers, 3, 64, sequences_max * blocks));
    for (int64_t i = 0; i < sequences_max * blocks; ++i) table_.push_back(static_cast<int32_t>(i));
  }

  // `sequences` sequences of `rows` rows each, after `position` positions; logits of each one's last row.
  void forward(int64_t sequences, int64_t rows, int64_t position) {
    std::vector<int32_t> tokens(static_cast<size_t>(sequences * rows)), last;
    std::vector<SequenceRows> parts;
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 37 % kVocabulary);
    for (int64_t s = 0; s < sequences; ++s) {
      last.push_back(static_cast<int32_t>((s + 1) * rows - 1));
      parts.push_back({.first_row = s * rows,
                       .rows = rows,
                       .first_position = position,
                       .block_table = std::span(table_).subspan(s * kContext / kBlockPositions)});
    }
    const Batch batch = {.tokens = tokens, .sequences = parts, .output_rows = last};
    backend_.begin_step({});
    Tensor x = backend_.embed(*head_, tokens);
    for (int64_t i = 0; i < kLayers; ++i) {
      const ScratchScope scope(backend_);
      const Layer& layer = layers_[i];
      Tensor qkv = backend_.matmul(backend_.rms_norm(x, norm_, 1e-5f), *layer.qkv);
      backend_.rope_and_store(qkv, rope_.table, kAttention, batch, *cache_, i);
      backend_.matmul_add(x, backend_.attention(qkv, kAttention, batch, *cache_, i), *layer.output);
      backend_.matmul_add(x, backend_.gated_matmul(backend_.rms_norm(x, norm_, 1e-5f), *layer.gate_up),
                          *layer.down);
    }
    backend_.matmul(backend_.rms_norm(backend_.select_rows(x, last), norm_, 1e-5f), *head_);
  }

 private:
  Backend& backend_;
  testing::RopeValues rope_;
  std::vector<float> norm_;
  OwnedMatrix embedding_;
  std::unique_ptr<Matrix> head_;
  std::vector<Layer> layers_;
  std::unique_ptr<KvCache> cache_;
  std::vector<int32_t> table_;
};

void bench_forward(Backend& backend, const Options& options, DType body) {
  struct Case {
    const char* name;
    int64_t sequences, rows, position;
  };
  constexpr Case kCases[] = {
      {"decode, context 128", 1, 1, 128},
      {"decode, context 512", 1, 1, 512},
      {"decode, context 2048", 1, 1, 2048},
      {"decode x 4, context 128", 4, 1, 128},
      {"decode x 8, context 128", 8, 1, 128},
      {"decode x 32, context 128", 32, 1, 128},
      {"prefill 128", 1, 128, 0},
      {"prefill 512", 1, 512, 0},
      {"prefill 512 after 1536", 1, 512, 1536},
  };
  Model model(backend, body, 32);
  for (const Case& c : kCases) {
    const double seconds =
        best_seconds(options, 3 * options.seconds, [&] { model.forward(c.sequences, c.rows, c.position); });
    fmt::print("{:26} {:8.2f} ms  {:7.0f} tokens/s\n", c.name, seconds * 1e3,
               static_cast<double>(c.sequences * c.rows) / seconds);
  }
}

// Attention alone, of one layer: its floating point operations (those of visible positions), and their share of the rate of
// multiply-adds measured just before with the table's vectors on as many threads (one thread's times their number).
double fma_rate(const Options& options, std::string_view table) {
  const auto run = table.ends_with("avx2") ? bench::fma_vectors
                   : __builtin_cpu_supports("avx512f") && table.find("generic") == table.npos
                       ? bench::fma_wide_vectors
                       : bench::fma_scalars;
  float sink = 0;
  double operations = 0;
  const double seconds = best_seconds(options, options.seconds / 4, [&] {
    operations = 0;
    for (int i = 0; i < 16; ++i) operations += run(static_cast<float>(i), sink);
  });
  check(sink != 0.5f, "the sums are needed");
  return operations / seconds * static_cast<double>(options.backend.threads);
}

void bench_attention(Backend& backend, const Options& options, KvType type) {
  struct Case {
    const char* name;
    AttentionShape shape;
    int64_t rows, position;
  };
  constexpr AttentionShape kEncoder = {.num_attention_heads = 12,
                                       .num_key_value_heads = 12,
                                       .head_dim = 32,
                                       .scale = 0.17677669f,
                                       .causal = false};
  constexpr AttentionShape kWide = {
      .num_attention_heads = 32, .num_key_value_heads = 8, .head_dim = 128, .scale = 0.088388f};
  constexpr AttentionShape kLatent = {
      .num_attention_heads = 16, .num_key_value_heads = 1, .head_dim = 576, .scale = 0.04f, .value_dim = 512};
  constexpr AttentionShape kManyLatent = {.num_attention_heads = 128,
                                          .num_key_value_heads = 1,
                                          .head_dim = 576,
                                          .scale = 0.04f,
                                          .value_dim = 512};
  constexpr AttentionShape kSmall = {
      .num_attention_heads = 4, .num_key_value_heads = 1, .head_dim = 256, .scale = 0.0625f};
  const Case cases[] = {
      {"9/3 heads of 64", kAttention, 1, 2048},
      {"9/3 heads of 64", kAttention, 8, 2048},
      {"9/3 heads of 64", kAttention, 512, 0},
      {"9/3 heads of 64", kAttention, 512, 1536},
      {"9/3 heads of 64", kAttention, 2048, 0},
      {"12/12 of 32, encoder", kEncoder, 64, 0},
      {"32/8 heads of 128", kWide, 1, 2048},
      {"32/8 heads of 128", kWide, 256, 1792},
      {"16/1 of 576, 512", kLatent, 1, 2048},
      {"16/1 of 576, 512", kLatent, 128, 896},
      {"128/1 of 576, 512", kManyLatent, 1, 2048},
      {"128/1 of 576, 512", kManyLatent, 128, 896},
      {"4/1 of 256", kSmall, 1, 512},
      {"4/1 of 256", kSmall, 1, 2048},
  };
  for (const Case& c : cases) {
    const AttentionShape& shape = c.shape;
    const int64_t values = shape.value_dim > 0 ? shape.value_dim : shape.head_dim, all = c.position + c.rows;
    const int64_t width = (shape.num_attention_heads + shape.num_key_value_heads) * shape.head_dim +
                          shape.num_key_value_heads * values;
    KvCacheShape cache_shape = {.layers = {{.num_key_value_heads = shape.num_key_value_heads,
                                            .key_dim = shape.head_dim,
                                            .value_dim = values}},
                                .blocks = (all + kBlockPositions - 1) / kBlockPositions};
    cache_shape.type = type;
    const auto cache = backend.make_kv_cache(cache_shape);
    std::vector<int32_t> table;
    for (int32_t i = 0; i < cache_shape.blocks; ++i) table.push_back(i);
    std::vector<float> rows = testing::random_floats(all * width, 3);
    Tensor qkv = testing::view_of(rows, all, width);
    const SequenceRows fill = {.rows = all, .block_table = table};
    const SequenceRows sequence = {.rows = c.rows, .first_position = c.position, .block_table = table};
    backend.begin_step({});
    backend.rope_and_store(qkv, {}, shape, {.sequences = {&fill, 1}}, *cache, 0);
    Tensor last = qkv;
    last.data = qkv.row(c.position), last.rows = c.rows;
    const double rate = fma_rate(options, backend.name());
    const double seconds = best_seconds(options, options.seconds, [&] {
      const ScratchScope scope(backend);
      backend.attention_values(last, shape, {.sequences = {&sequence, 1}}, *cache, 0);
    });
    const double visible = shape.causal ? static_cast<double>(c.rows) * (static_cast<double>(c.position) +
                                                                         static_cast<double>(c.rows + 1) / 2)
                                        : static_cast<double>(c.rows * all);
    const double done =
        2.0 * visible * static_cast<double>(shape.num_attention_heads * (shape.head_dim + values));
    fmt::print("attention {:21} {:4} rows after {:4}  {:9.1f} us  {:6.1f} GFLOP/s of {:6.1f}: {:4.1f} %\n",
               c.name, c.rows, c.position, seconds * 1e6, done / seconds / 1e9, rate / 1e9,
               100 * done / seconds / rate);
  }
}

// all-MiniLM-L6-v2: 32 sentences of 8-64 tokens in a batch. The time is also given for each operation's sum over the layers.
class Encoder {
 public:
  static constexpr int64_t kWidth = 384, kInner = 1536, kDepth = 6, kSentences = 32;

  explicit Encoder(Backend& backend)
      : backend_(backend), ones_(kInner, 1.0f), bias_(3 * kWidth + kInner, 0.01f) {
    const auto load = [&](int64_t rows, int64_t columns) {
      const OwnedMatrix w = testing::random_matrix(DType::f32, rows, columns, 1);
      return backend_.load_matrix({&w.view, 1});
    };
    for (int64_t i = 0; i < kDepth; ++i)
      layers_.push_back(
          {load(3 * kWidth, kWidth), load(kWidth, kWidth), load(kInner, kWidth), load(kWidth, kInner)});
    for (int64_t i = 0; i < kSentences; ++i) lengths_.push_back(8 + i * 56 / (kSentences - 1));
    for (const int64_t length : lengths_) rows_ += length;
    for (int32_t i = 0; i < 2 * kSentences; ++i) table_.push_back(i);
    cache_ = backend.make_kv_cache(uniform_kv_cache(kDepth, 12, 32, 2 * kSentences));
    input_ = testing::random_floats(rows_ * kWidth, 3);
  }

  void forward(const std::function<void(const char*)>& mark) {
    const AttentionShape shape = {.num_attention_heads = 12,
                                  .num_key_value_heads = 12,
                                  .head_dim = 32,
                                  .scale = 0.17677669f,
                                  .causal = false};
    const std::span<const float> ones(ones_.data(), kWidth), bias(bias_);
    backend_.begin_step({});
    std::vector<SequenceRows> sequences;
    int64_t row = 0;
    for (size_t i = 0; i < lengths_.size(); row += lengths_[i++])
      sequences.push_back(
          {.first_row = row, .rows = lengths_[i], .block_table = std::span(table_).subspan(2 * i, 2)});
    const Batch batch = {.sequences = sequences};
    const Tensor x = backend_.copy(testing::view_of(input_, rows_, kWidth));
    for (int64_t i = 0; i < kDepth; ++i) {
      const ScratchScope scope(backend_);
      const Layer& layer = layers_[static_cast<size_t>(i)];
      const Activation in = backend_.activation(x);
      mark("activation");
      Tensor qkv = backend_.matmul(in, *layer.qkv);
      mark("products");
      backend_.add_bias(qkv, bias.first(3 * kWidth));
      mark("add_bias");
      backend_.rope_and_store(qkv, {}, shape, batch, *cache_, i);
      mark("rope_and_store");
      const Activation values = backend_.attention(qkv, shape, batch, *cache_, i);
      mark("attention");
      Tensor sum = x;
      backend_.matmul_add(sum, values, *layer.output);
      mark("products");
      backend_.add_bias(x, bias.first(kWidth));
      mark("add_bias");
      backend_.layer_normalize(x, ones, bias.first(kWidth), 1e-12f);
      mark("layer_normalize");
      const Activation middle = backend_.activation(x);
      mark("activation");
      const Tensor inner = backend_.matmul(middle, *layer.gate_up);
      mark("products");
      backend_.add_bias(inner, bias.first(kInner));
      mark("add_bias");
      backend_.apply(inner, Function::gelu_erf);
      mark("gelu");
      const Activation gated = backend_.activation(inner);
      mark("activation");
      backend_.matmul_add(sum, gated, *layer.down);
      mark("products");
      backend_.add_bias(x, bias.first(kWidth));
      mark("add_bias");
      backend_.layer_normalize(x, ones, bias.first(kWidth), 1e-12f);
      mark("layer_normalize");
    }
  }
  int64_t rows() const { return rows_; }

 private:
  Backend& backend_;
  std::vector<Layer> layers_;
  std::vector<float> ones_, bias_, input_;
  std::vector<int64_t> lengths_;
  std::vector<int32_t> table_;
  std::unique_ptr<KvCache> cache_;
  int64_t rows_ = 0;
};

void bench_encoder(Backend& backend, const Options& options) {
  Encoder encoder(backend);
  const double seconds =
      best_seconds(options, 3 * options.seconds, [&] { encoder.forward([](const char*) {}); });
  const double operations = 2.0 * Encoder::kDepth * Encoder::kWidth *
                            (4 * Encoder::kWidth + 2 * Encoder::kInner) * static_cast<double>(encoder.rows());
  fmt::print("encoder, {} tokens: {:8.2f} ms  {:7.0f} sentences/s  {:5.3f} TOP/s\n", encoder.rows(),
             seconds * 1e3, Encoder::kSentences / seconds, operations / seconds / 1e12);
  std::map<std::string, double> parts;
  double last = now(options);
  encoder.forward([&](const char* part) {
    const double time = now(options);
    parts[part] += time - last, last = time;
  });
  for (const auto& [part, time] : parts) fmt::print("  {:16} {:8.2f} ms\n", part, time * 1e3);
}

void run(int argc, char** argv) {
  Options options;
  bool float32 = false, forward_only = false, encoder_only = false, attention_only = false;
  std::string type, kv = "bf16";
  CLI::App app("Speed of the compute kernels");
  app.add_option("--isa", options.backend.isa, "kernel table");
  app.add_option("--threads", options.backend.threads);
  app.add_option("--seconds", options.seconds, "for each line");
  app.add_option("--type", type,
                 "only products with weights of this type, 2048x768, or the forward pass with them");
  app.add_flag("--float32", float32, "the arithmetic of --exact");
  app.add_flag("--forward", forward_only, "without the single products");
  app.add_flag("--encoder", encoder_only, "only the encoder");
  app.add_flag("--attention", attention_only, "only attention");
  app.add_option("--kv", kv, "type of the keys and values of attention")
      ->check(CLI::IsMember({"bf16", "f16", "q8_0"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (float32) options.backend.arithmetic = Arithmetic::float32;
  const auto backend = make_cpu_backend(options.backend);
  backend->reserve(int64_t{512} << 20);
  fmt::print("{}, {} threads\n", backend->name(), backend->threads());
  if (encoder_only) return bench_encoder(*backend, options);
  if (attention_only) {
    const auto at = std::ranges::find(kKvTypeNames, kv);
    return bench_attention(*backend, options, static_cast<KvType>(at - std::begin(kKvTypeNames)));
  }
  const auto chosen = dtype_named(type.empty() ? "q4_1" : type);
  if (!chosen) throw make_error(ErrorCode::invalid_argument, "no type of weights is named \"{}\"", type);
  if (!type.empty() && !forward_only) return bench_products(*backend, options, *chosen, 2048, 768);
  if (!forward_only) {
    bench_products(*backend, options, DType::q4_1, 3072, 576);
    bench_products(*backend, options, DType::q4_1, 576, 1536);
    bench_products(*backend, options, DType::q8_0, 49152, 576);
    for (const DType dtype : {DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs})
      bench_products(*backend, options, dtype, 2048, 768);
    bench_products(*backend, options, DType::bf16, 3072, 576);
    bench_products(*backend, options, DType::f32, 1536, 384);
    bench_products(*backend, options, DType::f32, 384, 1536);
  }
  bench_forward(*backend, options, *chosen);
  if (!forward_only) bench_encoder(*backend, options);
}

}  // namespace
}  // namespace neutrino::compute

int main(int argc, char** argv) { neutrino::compute::run(argc, argv); }
