#include "weights/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "compute/quantize.h"
#include "weights/gguf.h"
#include "weights/gguf_writer.h"
#include "weights/testing/gguf_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using compute::DType;
using compute::cpu::ThreadTeam;

TensorEntry entry(std::string name, std::vector<int64_t> shape) {
  return {.name = std::move(name), .dtype = DType::f32, .shape = std::move(shape)};
}

struct Sizes {
  int64_t hidden = 1024, layers = 24, heads_per_kv = 2, experts = 0;
  bool tied = false;
};

std::vector<TensorEntry> model(const Sizes& o) {
  std::vector<TensorEntry> all = {entry("token_embd.weight", {5000, o.hidden}),
                                  entry("output_norm.weight", {o.hidden})};
  if (!o.tied) all.push_back(entry("output.weight", {5000, o.hidden}));
  for (int64_t layer = 0; layer < o.layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      all.push_back(entry(prefix + name, std::move(shape)));
    };
    add("attn_norm.weight", {o.hidden});
    add("attn_q.weight", {o.hidden, o.hidden}), add("attn_q.bias", {o.hidden});
    add("attn_k.weight", {o.hidden / o.heads_per_kv, o.hidden});
    add("attn_v.weight", {o.hidden / o.heads_per_kv, o.hidden});
    add("attn_output.weight", {o.hidden, o.hidden});
    if (o.experts) {
      add("ffn_gate_inp.weight", {o.experts, o.hidden});
      add("ffn_up_exps.weight", {o.experts, 512, o.hidden});
      add("ffn_down_exps.weight", {o.experts, o.hidden, 512});
    } else {
      add("ffn_up.weight", {2048, o.hidden}), add("ffn_down.weight", {o.hidden, 2048});
    }
    add("ssm_conv1d.weight", {o.hidden, 4}), add("ssm_a", {16, 1});
  }
  return all;
}

std::map<std::string, DType> plan_of(const Sizes& sizes, std::string_view mix) {
  const auto tensors = model(sizes);
  const auto plan = quant_plan(tensors, quant_mix_named(mix));
  std::map<std::string, DType> types;
  for (size_t i = 0; i < tensors.size(); ++i) types[tensors[i].name] = plan.at(i);
  return types;
}

// The layers of 24 in which `name` has the type, as text.
std::string layers_with(const std::map<std::string, DType>& plan, const std::string& name, DType dtype) {
  std::string layers;
  for (int layer = 0; layer < 24; ++layer)
    if (plan.at("blk." + std::to_string(layer) + "." + name) == dtype) layers += std::to_string(layer) + " ";
  return layers;
}

TEST(QuantPlan, small_tensors_stay_float32_in_every_mix) {
  for (const QuantMix& mix : quant_mixes()) {
    const auto plan = plan_of({.experts = 16}, mix.name);
    for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.bias",
                             "blk.0.ffn_gate_inp.weight", "blk.0.ssm_conv1d.weight", "blk.0.ssm_a"})
      EXPECT_EQ(plan.at(name), DType::f32) << mix.name << ' ' << name;
    EXPECT_EQ(plan.at("blk.0.attn_q.weight") == DType::f32, mix.name == "f32") << mix.name;
  }
}

// Which layers get more bits, as llama-quantize prints it for 24 layers.
TEST(QuantPlan, the_mixes_are_those_of_llama_quantize) {
  const std::string more = "0 1 2 5 8 11 14 17 20 21 22 23 ";
  auto plan = plan_of({}, "q4_k_m");
  EXPECT_EQ(plan.at("output.weight"), DType::q6_k);
  EXPECT_EQ(plan.at("token_embd.weight"), DType::q4_k);
  EXPECT_EQ(layers_with(plan, "attn_v.weight", DType::q6_k), more);
  EXPECT_EQ(layers_with(plan, "ffn_down.weight", DType::q6_k), more);
  EXPECT_EQ(layers_with(plan, "attn_q.weight", DType::q4_k).size(), 62u);
  plan = plan_of({.tied = true}, "q5_k_m");
  EXPECT_EQ(plan.at("token_embd.weight"), DType::q6_k);
  EXPECT_EQ(layers_with(plan, "ffn_down.weight", DType::q6_k), more);
  EXPECT_EQ(plan.at("blk.3.ffn_down.weight"), DType::q5_k);
  plan = plan_of({.heads_per_kv = 4}, "iq4_xs");
  EXPECT_EQ(layers_with(plan, "ffn_down.weight", DType::q5_k), "0 1 2 ");
  EXPECT_EQ(layers_with(plan, "attn_v.weight", DType::iq4_xs), "");
  EXPECT_EQ(plan_of({.heads_per_kv = 2}, "iq4_xs").at("blk.9.attn_v.weight"), DType::iq4_xs);
  EXPECT_EQ(plan_of({}, "q6_k").at("blk.9.attn_v.weight"), DType::q6_k);
  EXPECT_EQ(plan_of({}, "q8_0").at("output.weight"), DType::q8_0);
  EXPECT_EQ(plan_of({}, "q4_0").at("output.weight"), DType::q6_k);
  EXPECT_EQ(plan_of({}, "bf16").at("output.weight"), DType::bf16);
}

TEST(QuantPlan, experts) {
  auto plan = plan_of({.experts = 16}, "mxfp4");
  EXPECT_EQ(plan.at("blk.0.ffn_down_exps.weight"), DType::mxfp4);
  EXPECT_EQ(plan.at("blk.0.attn_q.weight"), DType::q8_0);
  EXPECT_EQ(plan.at("output.weight"), DType::q8_0);
  plan = plan_of({.experts = 8}, "q4_k_m");
  EXPECT_EQ(plan.at("blk.4.attn_v.weight"), DType::q8_0);
  EXPECT_EQ(plan.at("blk.4.attn_k.weight"), DType::q8_0);
  EXPECT_EQ(plan.at("blk.4.attn_output.weight"), DType::q5_k);
  EXPECT_EQ(plan.at("blk.5.ffn_down_exps.weight"), DType::q6_k);
}

TEST(QuantPlan, rows_of_broken_blocks_get_a_type_of_smaller_ones) {
  auto plan = plan_of({.hidden = 576}, "q4_k_m");  // 2.25 blocks of 256, 18 of 32
  EXPECT_EQ(plan.at("blk.3.attn_q.weight"), DType::q5_0);
  EXPECT_EQ(plan.at("blk.0.attn_v.weight"), DType::q8_0);
  EXPECT_EQ(plan.at("output.weight"), DType::q8_0);
  EXPECT_EQ(plan.at("blk.3.ffn_down.weight"), DType::q4_k);  // its rows have 2048
  EXPECT_EQ(plan_of({.hidden = 576}, "q5_k_m").at("blk.3.attn_q.weight"), DType::q5_1);
  EXPECT_EQ(plan_of({.hidden = 576}, "iq4_xs").at("blk.3.attn_q.weight"), DType::iq4_nl);
  EXPECT_EQ(plan_of({.hidden = 72}, "q4_0").at("blk.3.attn_q.weight"), DType::f16);
  EXPECT_EQ(plan_of({.hidden = 72}, "q4_k_m").at("blk.3.attn_q.weight"), DType::f16);
}

TEST(QuantPlan, an_unknown_mix_is_named) {
  try {
    quant_mix_named("q3_k_m");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(),
              "the type must be one of f32, f16, bf16, q8_0, q4_0, q4_1, q4_k_m, q5_k_m, q6_k, iq4_xs, "
              "mxfp4, got \"q3_k_m\"");
  }
}

// A file whose tensor is made when it is read, as those of other formats are; a stack one matrix at a time.
class MadeFile final : public WeightFile {
 public:
  MadeFile(const TensorEntry& tensor, const std::byte* data) : tensor_(tensor), data_(data) {}
  TensorData read(const TensorEntry& tensor) const override {
    return copy(data_, static_cast<size_t>(tensor.bytes));
  }
  TensorData read_slice(const TensorEntry& tensor, int64_t index) const override {
    const int64_t bytes = tensor.bytes / tensor.shape[0];
    return copy(data_ + index * bytes, static_cast<size_t>(bytes));
  }
  const std::filesystem::path& path() const override { return path_; }
  std::string_view format() const override { return "made"; }
  const Metadata& metadata() const override { throw make_error(ErrorCode::internal, "none"); }
  std::span<const TensorEntry> tensors() const override { return {&tensor_, 1}; }
  const TensorEntry* find(std::string_view) const override { return nullptr; }
  tokenizer::Vocabulary vocabulary() const override { return {}; }
  std::optional<std::string> chat_template() const override { return std::nullopt; }

 private:
  static TensorData copy(const std::byte* data, size_t bytes) {
    const auto owner = std::make_shared<std::vector<std::byte>>(data, data + bytes);
    return {owner->data(), owner};
  }
  std::filesystem::path path_;
  TensorEntry tensor_;
  const std::byte* data_;
};

struct FloatTensor {
  std::vector<float> values;
  TensorEntry tensor;

  FloatTensor(std::vector<int64_t> shape, uint64_t seed) : tensor(entry("blk.0.x.weight", std::move(shape))) {
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    Random random(seed);
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(random.uniform() - 0.5));
    tensor.bytes = count * 4;
  }
};

std::string quantised(const FloatTensor& x, DType target, int64_t threads) {
  std::string bytes;
  ThreadTeam team(threads);
  const MadeFile file(x.tensor, reinterpret_cast<const std::byte*>(x.values.data()));
  quantize_tensor(file, x.tensor, target, team, [&](std::span<const std::byte> piece) {
    bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return bytes;
}

// More rows than a piece, three dimensions; each row's bytes are those of the row alone.
TEST(QuantizeTensor, rows_have_the_bytes_of_the_row_alone_for_any_number_of_threads) {
  const FloatTensor x({3, 700, 512}, 1);
  for (const DType dtype : {DType::q4_0, DType::f16, DType::q8_0}) {
    const std::string bytes = quantised(x, dtype, 1);
    EXPECT_EQ(quantised(x, dtype, 3), bytes);
    const auto row_bytes = static_cast<size_t>(compute::row_bytes(dtype, 512).value());
    ASSERT_EQ(bytes.size(), 2100 * row_bytes);
    std::string row(row_bytes, '\0');
    for (const size_t r : {size_t{0}, size_t{1023}, size_t{2099}}) {
      compute::quantize_weights(dtype, x.values.data() + r * 512, 512, row.data());
      EXPECT_EQ(bytes.substr(r * row_bytes, row_bytes), row);
    }
  }
}

TEST(QuantizeTensor, the_same_type_is_copied) {
  FloatTensor x({4, 32}, 1);
  EXPECT_EQ(quantised(x, DType::f32, 1),
            std::string_view(reinterpret_cast<const char*>(x.values.data()), 4 * 32 * 4));
}

TEST(QuantizeTensor, a_value_that_does_not_fit_is_named) {
  FloatTensor x({2, 20, 64}, 1);
  x.values[30 * 64 + 5] = x.values[27 * 64 + 9] = std::nanf("");
  try {
    quantised(x, DType::q4_0, 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(
        error.message(),
        "tensor \"blk.0.x.weight\" cannot be written as q4_0: row 27 column 9 is nan, finite values of at "
        "most 65504 were expected");
  }
}

// A whole model through plan, quantiser, writer and reader, to each mix.
TEST(QuantizeTensor, a_model_is_written_in_every_mix) {
  const testing::TemporaryFolder folder;
  const std::string source =
      serialise(testing::tiny_llama({.hidden_size = 256, .intermediate_size = 512, .dtype = DType::f32}));
  const auto file = parse_gguf("source.gguf", std::as_bytes(std::span(source)));
  ThreadTeam team(2);
  for (const QuantMix& mix : quant_mixes()) {
    const auto plan = quant_plan(file->tensors(), mix);
    std::vector<GgufTensorInfo> infos;
    for (size_t i = 0; i < plan.size(); ++i)
      infos.push_back({file->tensors()[i].name, plan[i], file->tensors()[i].shape});
    write_gguf(folder.path() / "x.gguf", {}, infos, [&](size_t i, const GgufSink& sink) {
      quantize_tensor(*file, file->tensors()[i], plan[i], team, sink);
    });
    const auto written = open_weight_file(folder.path() / "x.gguf");
    const TensorEntry *a = file->find("blk.0.attn_q.weight"), *b = written->find("blk.0.attn_q.weight");
    std::vector<float> x(256), y(256);
    compute::dequantize_row(a->dtype, a->data, 256, x.data());
    compute::dequantize_row(b->dtype, b->data, 256, y.data());
    double error = 0, sum = 0;
    for (int i = 0; i < 256; ++i) error += std::pow(x[i] - y[i], 2), sum += x[i] * x[i];
    EXPECT_LT(std::sqrt(error / sum), 0.1) << mix.name;
  }
}

}  // namespace
}  // namespace neutrino::weights
