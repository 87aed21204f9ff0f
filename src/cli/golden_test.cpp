// The real model against `transformers` in float32 on the same dequantised weights (tests/golden/README.md has the formats).

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/model_runner.h"
#include "tokenizer/tokenizer.h"
#include "weights/weight_file.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kChunk = 64;
const std::string kGolden = NEUTRINO_SOURCE_DIR "/tests/golden/smollm2-135m-instruct";

// A real model: the variable that names its file, and the golden data (empty: beside the file).
struct RealModel {
  const char *name, *variable;
  std::string golden;
};

struct Position {
  float logsumexp = 0, tail = 0;  // tail: probability of all tokens that are not listed
  std::vector<uint32_t> ids;      // best first
  std::vector<float> logits;
};
struct Window {
  std::vector<int32_t> tokens;
  std::vector<Position> positions;  // one per token
};

class GoldenReader {
 public:
  explicit GoldenReader(const std::string& path) : file_(path, std::ios::binary) {
    char magic[8];
    file_.read(magic, 8);
    wide_ids_ = std::memcmp(magic, "NTGOLD2\n", 8) == 0;
    check(file_ && (wide_ids_ || std::memcmp(magic, "NTGOLD1\n", 8) == 0), "golden data");
  }
  std::vector<Window> read() {
    const auto windows = value<uint32_t>(), top = value<uint32_t>();
    std::vector<Window> result(windows);
    for (Window& window : result) {
      window.tokens = values<int32_t>(value<uint32_t>());
      for (size_t i = 0; i < window.tokens.size(); ++i) {
        Position& position = window.positions.emplace_back();
        position.logsumexp = value<float>();
        position.tail = value<float>();
        position.ids = ids(top);
        position.logits = values<float>(top);
      }
    }
    check(static_cast<bool>(file_), "golden data ends early");
    return result;
  }

 private:
  template <typename T>
  T value() {
    return values<T>(1)[0];
  }
  template <typename T>
  std::vector<T> values(size_t count) {
    std::vector<T> result(count);
    file_.read(reinterpret_cast<char*>(result.data()), static_cast<std::streamsize>(count * sizeof(T)));
    return result;
  }
  std::vector<uint32_t> ids(size_t count) {
    if (wide_ids_) return values<uint32_t>(count);
    const auto narrow = values<uint16_t>(count);
    return {narrow.begin(), narrow.end()};
  }
  std::ifstream file_;
  bool wide_ids_ = false;
};

struct Distance {
  double kl_sum = 0;
  int64_t positions = 0, top_1_equal = 0;
  double mean_kl() const { return kl_sum / static_cast<double>(positions); }
  double top_1() const { return static_cast<double>(top_1_equal) / static_cast<double>(positions); }
};

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

// KL over the listed tokens and one bucket for the rest.
void add_position(const Position& expected, std::span<const float> logits, Distance& distance) {
  const double norm = log_sum_exp(logits);
  double kl = 0, listed = 0;
  for (size_t i = 0; i < expected.ids.size(); ++i) {
    const double p = expected.logits[i] - double{expected.logsumexp}, q = logits[expected.ids[i]] - norm;
    kl += std::exp(p) * (p - q);
    listed += std::exp(q);
  }
  if (expected.tail > 0) kl += expected.tail * std::log(expected.tail / std::max(1 - listed, 1e-12));
  distance.kl_sum += kl;
  distance.positions += 1;
  distance.top_1_equal += std::max_element(logits.begin(), logits.end()) - logits.begin() == expected.ids[0];
}

class Comparison : public ::testing::Test {
 protected:
  void load(const std::string& path, compute::Arithmetic arithmetic, std::string_view isa = "") {
    file_ = weights::open_weight_file(path);
    backend_ = compute::make_cpu_backend({.arithmetic = arithmetic, .isa = std::string(isa)});
    model_ = models::load_model(*file_, *backend_);
  }

  Distance measure(const std::string& golden) {
    Distance distance;
    for (const Window& window : GoldenReader(golden + ".logits").read()) {
      const auto size = static_cast<int64_t>(window.tokens.size());
      ModelRunner runner(*model_, *backend_, 1, size, kChunk, kChunk);
      for (int64_t at = 0; at < size; at += kChunk) {
        const std::vector<int32_t> chunk(window.tokens.begin() + at,
                                         window.tokens.begin() + std::min(at + kChunk, size));
        const compute::Tensor logits = runner.forward(0, {&chunk, 1}, ModelRunner::Outputs::all);
        for (int64_t r = 0; r < logits.rows; ++r)
          add_position(window.positions[at + r], {logits.row(r), static_cast<size_t>(logits.columns)},
                       distance);
      }
    }
    return distance;
  }

  std::unique_ptr<weights::WeightFile> file_;
  std::unique_ptr<compute::Backend> backend_;
  std::unique_ptr<models::Model> model_;
};

class Golden : public Comparison, public ::testing::WithParamInterface<RealModel> {
 protected:
  void SetUp() override {
    const char* path = std::getenv(GetParam().variable);
    if (path == nullptr || !std::filesystem::exists(path))
      GTEST_SKIP() << GetParam().variable << " names no file";
    path_ = path;
    golden_ = GetParam().golden.empty() ? path_ + ".golden" : GetParam().golden;
    if (!std::filesystem::exists(golden_ + ".logits"))
      GTEST_SKIP() << "no golden data: tools/golden/make.py " << path_ << " " << golden_ << " makes it";
  }

  std::vector<int32_t> greedy(std::vector<int32_t> prompt, int64_t count) {
    ModelRunner runner(*model_, *backend_, 1, static_cast<int64_t>(prompt.size()) + count,
                       static_cast<int64_t>(prompt.size()), 1);
    std::vector<int32_t> tokens;
    while (static_cast<int64_t>(tokens.size()) < count) {
      const compute::Tensor logits = runner.forward(0, {&prompt, 1}, ModelRunner::Outputs::last);
      tokens.push_back(static_cast<int32_t>(std::max_element(logits.row(0), logits.row(0) + logits.columns) -
                                            logits.row(0)));
      prompt = {tokens.back()};
    }
    return tokens;
  }

  std::string path_, golden_;
};

TEST_P(Golden, TextTokenisesAsTheReference) {
  const auto tokenizer = tokenizer::make_tokenizer(weights::open_weight_file(path_)->vocabulary());
  std::vector<int32_t> expected;
  for (const Window& window : GoldenReader(golden_ + ".logits").read())
    expected.insert(expected.end(), window.tokens.begin(), window.tokens.end());
  EXPECT_GE(expected.size(), 2000u);
  const std::string text = read_file(NEUTRINO_SOURCE_DIR "/tests/golden/text.txt", 1 << 20);
  EXPECT_EQ(tokenizer->encode(text, tokenizer::Special::parse), expected);
}

TEST_P(Golden, ExactArithmeticIsTheReference) {
  load(path_, compute::Arithmetic::float32);
  const Distance distance = measure(golden_);
  std::printf("exact: mean KL %.3g, top-1 %.2f %%, %lld positions\n", distance.mean_kl(),
              distance.top_1() * 100, static_cast<long long>(distance.positions));
  EXPECT_GE(distance.positions, 2000);
  EXPECT_LE(distance.mean_kl(), 1e-5);
}

TEST_P(Golden, NormalArithmeticIsCloseToTheReference) {
  for (const std::string_view isa : compute::available_isas()) {
    if (isa == "generic") continue;  // minutes; its bits are those of the others
    load(path_, compute::Arithmetic::integer, isa);
    const Distance distance = measure(golden_);
    std::printf("%s: mean KL %.3g, top-1 %.2f %%, %lld positions\n", std::string(isa).c_str(),
                distance.mean_kl(), distance.top_1() * 100, static_cast<long long>(distance.positions));
    EXPECT_LE(distance.mean_kl(), 0.0005);
    EXPECT_GE(distance.top_1(), 0.985);
  }
}

TEST_P(Golden, GreedyTextEqualsTheReferenceUpToATie) {
  load(path_, compute::Arithmetic::float32);
  const json::value entries = parse_json(read_file(golden_ + ".greedy.json", 1 << 20));
  int64_t whole = 0;
  for (const json::value& entry : entries.as_array()) {
    const auto expected = json::value_to<std::vector<int32_t>>(entry.at("tokens"));
    const auto gaps = json::value_to<std::vector<double>>(entry.at("gaps"));
    const auto tokens = greedy(json::value_to<std::vector<int32_t>>(entry.at("prompt_tokens")),
                               static_cast<int64_t>(expected.size()));
    const auto at = std::mismatch(tokens.begin(), tokens.end(), expected.begin()).first - tokens.begin();
    if (at == static_cast<int64_t>(expected.size())) {
      ++whole;
    } else {
      EXPECT_LT(gaps[at], 0.01) << "token " << at << " of " << entry.at("prompt").as_string();
    }
  }
  std::printf("greedy: %lld of %zu prompts equal over all tokens\n", static_cast<long long>(whole),
              entries.as_array().size());
  EXPECT_EQ(entries.as_array().size(), 20u);
  EXPECT_GE(whole, 16);
}

INSTANTIATE_TEST_SUITE_P(Models, Golden,
                         ::testing::Values(RealModel{"SmolLM2", "NEUTRINO_TEST_MODEL", kGolden},
                                           RealModel{"Gemma3", "NEUTRINO_TEST_GEMMA", ""}),
                         [](const auto& model) { return std::string(model.param.name); });

// Tiny random checkpoints, one for each type of weights.
std::string tiny(const std::string& type) { return NEUTRINO_SOURCE_DIR "/tests/golden/tiny/llama-" + type; }

class TinyGolden : public Comparison, public ::testing::WithParamInterface<const char*> {};

TEST_P(TinyGolden, ExactArithmeticIsTheReference) {
  load(tiny(GetParam()) + ".gguf", compute::Arithmetic::float32);
  const Distance distance = measure(tiny(GetParam()));
  EXPECT_EQ(distance.positions, 24);
  EXPECT_LE(distance.mean_kl(), 1e-6);  // logsumexp is stored in float32
  EXPECT_EQ(distance.top_1(), 1);
}

TEST_P(TinyGolden, NormalArithmeticIsCloseToTheReference) {
  load(tiny(GetParam()) + ".gguf", compute::Arithmetic::integer);
  const Distance distance = measure(tiny(GetParam()));
  std::printf("tiny %s: mean KL %.3g\n", GetParam(), distance.mean_kl());
  EXPECT_LE(distance.mean_kl(), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Types, TinyGolden, ::testing::Values("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"),
                         [](const auto& type) { return std::string(type.param); });

TEST_F(Comparison, NoticesAnotherModel) {
  load(tiny("f32") + ".gguf", compute::Arithmetic::float32);
  EXPECT_GT(measure(tiny("q4_0")).mean_kl(), 1e-3);
}

}  // namespace
}  // namespace neutrino::cli
