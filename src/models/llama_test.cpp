// llama against an independent implementation in double precision without cache, and its configuration against bad files.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "models/model.h"
#include "models/testing/fake_weights.h"

namespace neutrino::models {
namespace {

using testing::FakeWeights;
using Vector = std::vector<double>;
using Rows = std::vector<Vector>;

// The paper's model, one position at a time, nothing shared with the code under test.
class NaiveLlama {
 public:
  explicit NaiveLlama(const weights::WeightFile& file, const ModelConfig& config)
      : file_(file), config_(config) {}

  Rows logits(const std::vector<int32_t>& tokens) const {
    const Rows embedding = matrix("token_embd.weight");
    Rows x;
    for (const int32_t token : tokens) x.push_back(embedding[token]);
    for (int64_t i = 0; i < config_.num_hidden_layers; ++i) layer(fmt::format("blk.{}.", i), x);
    const Rows head = matrix(config_.tie_word_embeddings ? "token_embd.weight" : "output.weight");
    Rows result;
    for (const Vector& row : x) result.push_back(product(head, norm(row, "output_norm.weight")));
    return result;
  }

 private:
  Rows matrix(const std::string& name) const {
    const weights::TensorEntry& tensor = *file_.find(name);
    const int64_t columns = tensor.shape.back(), rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
    Rows result;
    std::vector<float> row(columns);
    for (int64_t r = 0; r < rows; ++r) {
      compute::dequantize_row(tensor.dtype, tensor.data + r * tensor.bytes / rows, columns, row.data());
      result.emplace_back(row.begin(), row.end());
    }
    return result;
  }

  Vector norm(const Vector& x, const std::string& weight) const {
    const Vector w = matrix(weight)[0];
    const double mean =
        std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / static_cast<double>(x.size());
    Vector result;
    for (size_t i = 0; i < x.size(); ++i)
      result.push_back(x[i] / std::sqrt(mean + config_.rms_norm_eps) * w[i]);
    return result;
  }

  static Vector product(const Rows& w, const Vector& x) {
    Vector result;
    for (const Vector& row : w) result.push_back(std::inner_product(row.begin(), row.end(), x.begin(), 0.0));
    return result;
  }

  void rotate(Vector& heads, int64_t position) const {
    for (size_t at = 0; at < heads.size(); at += 2) {
      const auto pair = static_cast<double>(at % config_.head_dim);
      const double angle = static_cast<double>(position) *
                           std::pow(config_.rope_theta, -pair / static_cast<double>(config_.head_dim));
      const double a = heads[at], b = heads[at + 1];
      heads[at] = a * std::cos(angle) - b * std::sin(angle);
      heads[at + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  }

  void layer(const std::string& prefix, Rows& x) const {
    const Rows wq = matrix(prefix + "attn_q.weight"), wk = matrix(prefix + "attn_k.weight"),
               wv = matrix(prefix + "attn_v.weight");
    const Rows wo = matrix(prefix + "attn_output.weight"), gate = matrix(prefix + "ffn_gate.weight");
    const Rows up = matrix(prefix + "ffn_up.weight"), down = matrix(prefix + "ffn_down.weight");
    Rows keys, values;
    for (size_t t = 0; t < x.size(); ++t) {
      const Vector normed = norm(x[t], prefix + "attn_norm.weight");
      Vector q = product(wq, normed), k = product(wk, normed);
      rotate(q, t), rotate(k, t);
      keys.push_back(k), values.push_back(product(wv, normed));
      add(x[t], product(wo, attend(q, keys, values)));
      const Vector mlp = norm(x[t], prefix + "ffn_norm.weight");
      Vector g = product(gate, mlp);
      const Vector u = product(up, mlp);
      for (size_t i = 0; i < g.size(); ++i) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
      add(x[t], product(down, g));
    }
  }

  Vector attend(const Vector& q, const Rows& keys, const Rows& values) const {
    const int64_t dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
    Vector result(q.size());
    for (int64_t head = 0; head < config_.num_attention_heads; ++head) {
      const double* query = q.data() + head * dim;
      Vector weight;
      for (const Vector& key : keys)
        weight.push_back(
            std::exp(std::inner_product(query, query + dim, key.data() + head / group * dim, 0.0) /
                     std::sqrt(double(dim))));
      const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
      for (size_t t = 0; t < weight.size(); ++t)
        for (int64_t d = 0; d < dim; ++d)
          result[head * dim + d] += weight[t] / total * values[t][head / group * dim + d];
    }
    return result;
  }

  static void add(Vector& sum, const Vector& x) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += x[i];
  }

  const weights::WeightFile& file_;
  const ModelConfig& config_;
};

// Feeds `tokens` in chunks of the given sizes through one sequence and returns all logits.
std::vector<float> run(const Model& model, compute::Backend& backend, const std::vector<int32_t>& tokens,
                       const std::vector<int64_t>& chunks) {
  const int64_t blocks = 8;
  const auto cache = backend.make_kv_cache(model.kv_cache_shape(blocks));
  backend.reserve(model.scratch_bytes(64, 64));
  const std::vector<int32_t> table{5, 2, 7, 0, 1, 3, 4, 6};
  std::vector<float> logits;
  int64_t done = 0;
  for (const int64_t chunk : chunks) {
    std::vector<int32_t> positions(chunk), outputs(chunk);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(done));
    std::iota(outputs.begin(), outputs.end(), 0);
    const compute::SequenceRows rows{0, chunk, done, table};
    const compute::Tensor out = model.forward(
        backend, {{tokens.data() + done, static_cast<size_t>(chunk)}, positions, {&rows, 1}, outputs},
        *cache);
    for (int64_t r = 0; r < out.rows; ++r) logits.insert(logits.end(), out.row(r), out.row(r) + out.columns);
    done += chunk;
  }
  return logits;
}

std::vector<int32_t> some_tokens(int64_t count, int64_t vocab) {
  Random random(7);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(vocab));
  return tokens;
}

struct Case {
  const char* name;
  FakeWeights::Shape shape;
};
const Case kCases[] = {
    {"f32", {}},
    {"tied", {.tied = true}},
    {"one kv head", {.hidden = 96, .heads = 6, .kv_heads = 1}},
    {"f16", {.dtype = compute::DType::f16}},
    {"bf16", {.dtype = compute::DType::bf16}},
    {"q8_0", {.dtype = compute::DType::q8_0}},
    {"q4_0", {.dtype = compute::DType::q4_0}},
    {"q4_1", {.dtype = compute::DType::q4_1}},
};

// Root of the mean squared difference, in units of the expected values' own root mean square.
double relative_difference(const Rows& expected, const std::vector<float>& actual) {
  double difference = 0, size = 0;
  size_t at = 0;
  for (const Vector& row : expected)
    for (const double value : row) {
      difference += (value - actual[at]) * (value - actual[at]);
      size += value * value;
      ++at;
    }
  EXPECT_EQ(at, actual.size());
  return std::sqrt(difference / size);
}

TEST(Llama, EqualsTheNaiveModel) {
  for (const Case& test : kCases) {
    SCOPED_TRACE(test.name);
    const FakeWeights file(test.shape);
    const auto tokens = some_tokens(50, test.shape.vocab);
    const Rows expected = NaiveLlama(file, read_model_config(file)).logits(tokens);
    const auto exact = compute::make_reference_backend(compute::Arithmetic::float32);
    EXPECT_LT(relative_difference(expected, run(*load_model(file, *exact), *exact, tokens, {50})), 1e-5);
    const auto integer = compute::make_reference_backend(compute::Arithmetic::integer);
    EXPECT_LT(relative_difference(expected, run(*load_model(file, *integer), *integer, tokens, {50})), 0.01);
  }
}

TEST(Llama, ChunksAndTablesDoNotChangeBits) {
  for (const Case& test : kCases) {
    SCOPED_TRACE(test.name);
    const FakeWeights file(test.shape);
    const auto tokens = some_tokens(50, test.shape.vocab);
    for (const auto arithmetic : {compute::Arithmetic::integer, compute::Arithmetic::float32}) {
      const auto reference = compute::make_reference_backend(arithmetic);
      const auto expected = run(*load_model(file, *reference), *reference, tokens, {50});
      for (const std::string_view isa : compute::available_isas()) {
        SCOPED_TRACE(isa);
        const auto backend =
            compute::make_cpu_backend({.arithmetic = arithmetic, .threads = 2, .isa = std::string(isa)});
        const auto model = load_model(file, *backend);
        for (const std::vector<int64_t>& chunks :
             {std::vector<int64_t>{50}, {1, 49}, {31, 1, 1, 17}, {20, 20, 10}})
          EXPECT_EQ(run(*model, *backend, tokens, chunks), expected);
      }
    }
  }
}

struct BadValue {
  const char* key;
  FakeWeights::Value value;
};

// T-GGUF-06: every hyper-parameter that a file can get wrong is an Error that names it.
TEST(Llama, BadHyperParametersAreErrors) {
  std::vector<BadValue> cases;
  for (const char* key : {"llama.embedding_length", "llama.feed_forward_length", "llama.block_count",
                          "llama.attention.head_count", "llama.attention.head_count_kv",
                          "llama.context_length", "llama.rope.dimension_count", "llama.attention.key_length"})
    for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1} << 31,
                                std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()})
      cases.push_back({key, value});
  for (const char* key : {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"})
    for (const double value : {std::nan(""), -1.0, HUGE_VAL, -HUGE_VAL}) cases.push_back({key, value});
  cases.push_back({"llama.attention.head_count", int64_t{3}});
  cases.push_back({"llama.rope.scaling.type", std::string("magic")});
  cases.push_back({"llama.expert_count", int64_t{8}});
  cases.push_back({"general.architecture", std::string("nonsense")});
  const auto backend = compute::make_reference_backend(compute::Arithmetic::float32);
  for (const BadValue& bad : cases) {
    FakeWeights file;
    file.set(bad.key, bad.value);
    try {
      load_model(file, *backend);
      ADD_FAILURE() << bad.key << " was accepted";
    } catch (const Error& error) {
      EXPECT_NE(error.message().size(), 0u);
    }
  }
}

TEST(Llama, MissingTensorsAreErrorsThatNameThem) {
  const auto backend = compute::make_reference_backend(compute::Arithmetic::float32);
  for (const char* name :
       {"token_embd.weight", "output_norm.weight", "blk.1.attn_k.weight", "blk.0.ffn_down.weight"}) {
    FakeWeights file;
    file.erase_tensor(name);
    try {
      load_model(file, *backend);
      ADD_FAILURE() << name << " was not missed";
    } catch (const Error& error) {
      EXPECT_NE(error.message().find(name), std::string::npos) << error.message();
    }
  }
}

}  // namespace
}  // namespace neutrino::models
