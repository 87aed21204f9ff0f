// The tokenizer with a real model's vocabulary, against ids that Hugging Face's tokenizers gave
// (tools/make_tokenizer_golden.py). It lives here because the file reader is above the tokenizer in the layer table.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/hard_text.h"
#include "weights/weight_file.h"

namespace neutrino::weights {
namespace {

using tokenizer::Special;

class TokenizerGolden : public testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("NEUTRINO_TEST_MODEL");
    if (!model) GTEST_SKIP() << "NEUTRINO_TEST_MODEL is not set";
    file_ = weights::open_weight_file(model);
    tokenizer_ = tokenizer::make_tokenizer(file_->vocabulary());
    golden_ = parse_json(read_file(NEUTRINO_SOURCE_DIR "/tests/golden/tokenizer/smollm2.json", 16 << 20))
                  .as_object();
  }

  static std::vector<int32_t> ids_of(const json::value& list) {
    std::vector<int32_t> ids;
    for (const auto& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
    return ids;
  }

  std::unique_ptr<weights::WeightFile> file_;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  json::object golden_;
};

TEST_F(TokenizerGolden, SmolLM2GivesTheIdsOfHuggingFace) {
  int64_t tokens = 0, as_text = 0;
  for (const json::value& one : golden_.at("cases").as_array()) {
    const std::string_view text = one.at("text").as_string();
    const std::vector<int32_t> expected = ids_of(one.at("smollm"));
    EXPECT_EQ(tokenizer_->encode(text, Special::parse), expected) << one;
    tokens += static_cast<int64_t>(expected.size());
    const json::value* ids = one.as_object().if_contains("smollm as text");
    if (!ids) continue;
    EXPECT_EQ(tokenizer_->encode(text, Special::as_text), ids_of(*ids)) << one;
    ++as_text;
  }
  EXPECT_GE(tokens, 3000);
  EXPECT_GE(as_text, 5);
}

TEST_F(TokenizerGolden, SmolLM2GivesTheIdsOfHuggingFaceOnAHardText) {
  const json::value real = tokenizer::read_tokenizer_golden("real.json");
  const tokenizer::HashCheck check = tokenizer::check_hashes(*tokenizer_, real.at("smollm2"));
  EXPECT_GT(check.checked, 0);
  EXPECT_EQ(check.equal, check.checked);
}

TEST_F(TokenizerGolden, SmolLM2KnowsItsSpecialTokens) {
  EXPECT_EQ(tokenizer_->size(), 49152);
  EXPECT_EQ(std::vector<int32_t>(tokenizer_->stop_tokens().begin(), tokenizer_->stop_tokens().end()),
            (std::vector<int32_t>{0, 2}));
  EXPECT_FALSE(tokenizer_->add_bos());
  EXPECT_EQ(tokenizer_->find("<|im_start|>"), 1);
}

// The goal is 10 MB/s on a quiet core; a third of it is asserted (debug builds: a tenth of that).
TEST_F(TokenizerGolden, EncodesMegabytesOfEnglishInASecond) {
  std::string english = read_file(NEUTRINO_SOURCE_DIR "/tests/golden/tokenizer/text.txt", 1 << 20), text;
  english.erase(0, english.find("The lighthouse"));
  while (text.size() < 4 << 20) text += english;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(tokenizer_->encode(text, Special::parse).empty());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double megabytes_per_second = static_cast<double>(text.size()) / 1e6 / seconds;
  RecordProperty("megabytes_per_second", std::to_string(megabytes_per_second));
  EXPECT_GT(megabytes_per_second, kFaultsCompiled ? 0.3 : 3.3);
}

}  // namespace
}  // namespace neutrino::weights
