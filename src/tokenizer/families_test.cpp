// Every family of tokenizers against Hugging Face's `tokenizers`: a small vocabulary of each, trained with the family's own
// normaliser and pre-tokenizer (tools/make_tokenizer_families.py), and the ids of a text that is hard to cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/sha256.h"
#include "tokenizer/family_golden.h"
#include "tokenizer/hard_text.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer_json.h"

namespace neutrino::tokenizer {
namespace {

class Families : public testing::TestWithParam<std::string> {
 protected:
  json::value golden_ = read_tokenizer_golden("families/" + GetParam() + ".json");
  Vocabulary vocabulary_ = family_vocabulary(golden_);
  std::unique_ptr<Tokenizer> tokenizer_ = make_tokenizer(vocabulary_);
};

std::string test_name(const testing::TestParamInfo<std::string>& family) {
  std::string name = family.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Families, testing::ValuesIn(family_names()), test_name);

std::string hash_of(const std::vector<int32_t>& ids) {
  return to_hex(
      sha256(std::string_view(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t))));
}

void expect_hashes(const Tokenizer& tokenizer, const json::value& golden) {
  const bool all = std::getenv("NEUTRINO_TEST_LONG") != nullptr;
  for (const json::value& one : golden.at("hashes").as_array()) {
    const json::array& row = one.as_array();
    if (!all && row[1].as_int64() > 1 << 16) continue;
    const std::string text =
        HardText(static_cast<uint64_t>(row[0].as_int64())).make(static_cast<size_t>(row[1].as_int64()));
    const std::vector<int32_t> ids = tokenizer.encode(text, Special::parse);
    EXPECT_EQ(static_cast<int64_t>(ids.size()), row[2].as_int64());
    EXPECT_EQ(hash_of(ids), row[3].as_string()) << row[1];
  }
}

TEST_P(Families, GiveTheIdsOfHuggingFaceOnAHardText) { expect_hashes(*tokenizer_, golden_); }

TEST_P(Families, GiveTheIdsAndTextsOfHuggingFace) {
  for (const json::value& one : golden_.at("texts").as_array()) {
    const json::array& row = one.as_array();
    const std::string_view text = row[0].as_string();
    const std::vector<int32_t> ids = tokenizer_->encode(text, Special::parse);
    EXPECT_EQ(ids, ids_of(row[1])) << row[0];
    EXPECT_EQ(encode_document(*tokenizer_, text, Special::parse), ids_of(row[2])) << row[0];
    // Where bytes make no character, `tokenizers` and the WHATWG count replacement characters differently.
    const std::string_view decoded = row[3].as_string();
    if (decoded.find("\uFFFD") != decoded.npos) continue;
    EXPECT_EQ(decode(*tokenizer_, ids, false), decoded) << row[0];
  }
}

}  // namespace
}  // namespace neutrino::tokenizer
