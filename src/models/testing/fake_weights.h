// A weight file made in memory: a tiny random llama for tests that need a whole model and no file.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "weights/weight_file.h"

namespace neutrino::models::testing {

class FakeWeights final : public weights::WeightFile, private weights::Metadata {
 public:
  using Value = weights::MetadataValue;

  struct Shape {
    int64_t vocab = 96, hidden = 64, intermediate = 96, layers = 2, heads = 4, kv_heads = 2, context = 256;
    bool tied = false;
    compute::DType dtype = compute::DType::f32;  // of the matrices; norms are f32
    uint64_t seed = 1;
  };

  FakeWeights() : FakeWeights(Shape{}) {}
  explicit FakeWeights(const Shape& shape) {
    values_ = {{"general.architecture", "llama"},
               {"llama.embedding_length", shape.hidden},
               {"llama.feed_forward_length", shape.intermediate},
               {"llama.block_count", shape.layers},
               {"llama.attention.head_count", shape.heads},
               {"llama.attention.head_count_kv", shape.kv_heads},
               {"llama.context_length", shape.context},
               {"llama.attention.layer_norm_rms_epsilon", 1e-5},
               {"llama.rope.freq_base", 10000.0}};
    Random random(shape.seed);
    const int64_t head_dim = shape.hidden / shape.heads, q = shape.heads * head_dim,
                  kv = shape.kv_heads * head_dim;
    add(random, "token_embd.weight", {shape.vocab, shape.hidden}, shape.dtype, 1.0);
    if (!shape.tied) add(random, "output.weight", {shape.vocab, shape.hidden}, shape.dtype, 1.0);
    add(random, "output_norm.weight", {shape.hidden}, compute::DType::f32, 0);
    for (int64_t i = 0; i < shape.layers; ++i) {
      const std::string prefix = fmt::format("blk.{}.", i);
      add(random, prefix + "attn_norm.weight", {shape.hidden}, compute::DType::f32, 0);
      add(random, prefix + "attn_q.weight", {q, shape.hidden}, shape.dtype, 0.2);
      add(random, prefix + "attn_k.weight", {kv, shape.hidden}, shape.dtype, 0.2);
      add(random, prefix + "attn_v.weight", {kv, shape.hidden}, shape.dtype, 0.2);
      add(random, prefix + "attn_output.weight", {shape.hidden, q}, shape.dtype, 0.2);
      add(random, prefix + "ffn_norm.weight", {shape.hidden}, compute::DType::f32, 0);
      add(random, prefix + "ffn_gate.weight", {shape.intermediate, shape.hidden}, shape.dtype, 0.2);
      add(random, prefix + "ffn_up.weight", {shape.intermediate, shape.hidden}, shape.dtype, 0.2);
      add(random, prefix + "ffn_down.weight", {shape.hidden, shape.intermediate}, shape.dtype, 0.2);
    }
  }

  void set(const std::string& key, Value value) { values_[key] = std::move(value); }
  void erase(const std::string& key) { values_.erase(key); }
  void erase_tensor(std::string_view name) {
    std::erase_if(tensors_, [&](const auto& tensor) { return tensor.name == name; });
  }

  const std::filesystem::path& path() const override { return path_; }
  std::string_view format() const override { return "memory"; }
  const weights::Metadata& metadata() const override { return *this; }
  std::span<const weights::TensorEntry> tensors() const override { return tensors_; }
  const weights::TensorEntry* find(std::string_view name) const override {
    for (const auto& tensor : tensors_)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  tokenizer::Vocabulary vocabulary() const override { return {}; }
  std::optional<std::string> chat_template() const override { return std::nullopt; }

 private:
  bool has(std::string_view key) const override { return values_.contains(std::string(key)); }
  template <typename T>
  std::optional<T> get(std::string_view key) const {
    const auto found = values_.find(std::string(key));
    if (found == values_.end()) return std::nullopt;
    if (const T* value = std::get_if<T>(&found->second)) return *value;
    throw make_error(ErrorCode::invalid_argument, "{} has another type", key);
  }
  std::optional<int64_t> integer(std::string_view key) const override { return get<int64_t>(key); }
  std::optional<std::vector<int64_t>> integers(std::string_view key) const override {
    return get<std::vector<int64_t>>(key);
  }
  std::optional<std::vector<double>> numbers(std::string_view key) const override {
    return get<std::vector<double>>(key);
  }
  std::vector<std::string> keys() const override {
    std::vector<std::string> names;
    for (const auto& [key, value] : values_) names.push_back(key);
    return names;
  }
  weights::MetadataValue value(std::string_view key) const override { return values_.at(std::string(key)); }
  std::optional<double> number(std::string_view key) const override { return get<double>(key); }
  std::optional<bool> boolean(std::string_view key) const override { return get<bool>(key); }
  std::optional<std::string_view> text(std::string_view key) const override {
    const auto value = get<std::string>(key);
    return value ? std::optional<std::string_view>(
                       std::get<std::string>(values_.find(std::string(key))->second))
                 : std::nullopt;
  }

  // scale 0: a norm, near 1. Quantised blocks get random nibbles or bytes and scales of that size.
  void add(Random& random, const std::string& name, std::vector<int64_t> shape, compute::DType dtype,
           double scale) {
    const int64_t rows = shape.size() == 2 ? shape[0] : 1, columns = shape.back();
    const int64_t bytes = *compute::matrix_bytes(dtype, rows, columns);
    auto& data = storage_.emplace_back(std::make_unique<std::byte[]>(bytes));
    const auto uniform = [&] {
      return scale == 0 ? 1 + 0.2 * (random.uniform() - 0.5) : scale * (2 * random.uniform() - 1);
    };
    std::byte* out = data.get();
    const auto put16 = [&](uint16_t bits) { std::memcpy(out, &bits, 2), out += 2; };
    if (dtype == compute::DType::f32) {
      for (int64_t i = 0; i < rows * columns; ++i, out += 4) {
        const float value = static_cast<float>(uniform());
        std::memcpy(out, &value, 4);
      }
    } else if (dtype == compute::DType::f16 || dtype == compute::DType::bf16) {
      for (int64_t i = 0; i < rows * columns; ++i) {
        const float value = static_cast<float>(uniform());
        put16(dtype == compute::DType::f16 ? compute::f32_to_f16(value) : compute::f32_to_bf16(value));
      }
    } else {
      const bool q8 = dtype == compute::DType::q8_0;
      for (int64_t block = 0; block < rows * columns / 32; ++block) {
        put16(
            compute::f32_to_f16(static_cast<float>((0.5 + 0.5 * random.uniform()) * scale / (q8 ? 127 : 8))));
        if (dtype == compute::DType::q4_1)
          put16(compute::f32_to_f16(static_cast<float>(-scale * (0.8 + 0.2 * random.uniform()))));
        for (int64_t i = 0; i < (q8 ? 32 : 16); ++i) *out++ = static_cast<std::byte>(random.next());
      }
    }
    tensors_.push_back({name, dtype, std::move(shape), data.get(), bytes});
  }

  std::filesystem::path path_ = "fake.gguf";
  std::map<std::string, Value> values_;
  std::vector<std::unique_ptr<std::byte[]>> storage_;
  std::vector<weights::TensorEntry> tensors_;
};

}  // namespace neutrino::models::testing
