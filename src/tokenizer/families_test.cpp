// Every family of tokenizers against Hugging Face's `tokenizers`: a small vocabulary of each, trained with the family's own
// normaliser and pre-tokenizer (tools/make_tokenizer_families.py), and the ids of a text that is hard to cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "tokenizer/family_golden.h"
#include "tokenizer/hard_text.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer_json.h"

namespace neutrino::tokenizer {
namespace {

using testing::ElementsAre;

json::value golden_of(const std::string& family) {
  return read_tokenizer_golden("families/" + family + ".json");
}

void expect_all_equal(const HashCheck& check) {
  EXPECT_GT(check.checked, 0);
  EXPECT_EQ(check.equal, check.checked);
}

class Families : public testing::TestWithParam<std::string> {
 protected:
  json::value golden_ = golden_of(GetParam());
  Vocabulary vocabulary_ = family_vocabulary(golden_);
  std::unique_ptr<Tokenizer> tokenizer_ = make_tokenizer(vocabulary_);
};

std::string test_name(const testing::TestParamInfo<std::string>& family) {
  std::string name = family.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Families, testing::ValuesIn(family_names()), test_name);

TEST_P(Families, GiveTheIdsOfHuggingFaceOnAHardText) {
  expect_all_equal(check_hashes(*tokenizer_, golden_.at("hashes")));
}

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

TEST_P(Families, DecodeInPiecesAsInOne) {
  const std::vector<int32_t> ids = tokenizer_->encode(HardText(3).make(4000), Special::parse);
  StreamDecoder decoder(*tokenizer_, false);
  std::string all;
  for (const int32_t id : ids) decoder.push(id, all);
  decoder.finish(all);
  EXPECT_EQ(all, decode(*tokenizer_, ids, false));
}

// Bytes that are not UTF-8 give tokens, and never end in a crash.
TEST_P(Families, TakeAnyBytes) {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    std::string text(random.below(80), ' ');
    for (char& c : text)
      c = static_cast<char>(random.chance(0.5) ? random.below(256) : 'a' + random.below(26));
    for (const int32_t id : tokenizer_->encode(text, Special::as_text)) EXPECT_LT(id, tokenizer_->size());
  }
  EXPECT_FALSE(tokenizer_->encode("\xFF", Special::parse).empty());
  EXPECT_FALSE(tokenizer_->encode("\xE4\xB8", Special::parse).empty());
}

// The negative control: a family's hashes tell it from others with the same vocabulary.
TEST(FamiliesControl, HashesTellPreTokenizersApart) {
  const json::value golden = golden_of("llama-bpe");
  Vocabulary v = family_vocabulary(golden);
  v.pipeline.clear();
  for (const char* other : {"gpt-2", "qwen2", "gpt-4o", "tekken", "kimi-k2", "deepseek-v3"}) {
    v.pre = other;
    EXPECT_EQ(check_hashes(*make_tokenizer(v), golden.at("hashes")).equal, 0) << other;
  }
}

struct Named {
  const char* family;
  const char* pre;  // as it is recognised from the file
};

class FamilyNames : public testing::TestWithParam<Named> {};

INSTANTIATE_TEST_SUITE_P(All, FamilyNames,
                         testing::Values(Named{"gpt-2", "gpt-2"}, Named{"smollm", "smollm"},
                                         Named{"llama-bpe", "llama-bpe"}, Named{"glm4", "dbrx"},
                                         Named{"qwen2", "qwen2"}, Named{"qwen35", "qwen35"},
                                         Named{"gpt-4o", "gpt-4o"}, Named{"tekken", "tekken"},
                                         Named{"kimi-k2", "kimi-k2"}, Named{"deepseek-v3", "deepseek-v3"},
                                         Named{"deepseek-llm", "deepseek-llm"},
                                         Named{"deepseek-coder", "deepseek-coder"}, Named{"bloom", "bloom"},
                                         Named{"llama-2", ""}, Named{"gemma", ""}, Named{"bert-uncased", ""}),
                         [](const auto& named) {
                           std::string name = named.param.family;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// A GGUF file of another program has names instead of a pipeline.
TEST_P(FamilyNames, StandForTheSamePipeline) {
  const json::value golden = golden_of(GetParam().family);
  Vocabulary v = family_vocabulary(golden);
  EXPECT_EQ(v.pre, GetParam().pre);
  v.pipeline.clear();
  expect_all_equal(check_hashes(*make_tokenizer(v), golden.at("hashes")));
  // SentencePiece joins what together is a token; this family has added tokens that no merge makes.
  if (v.model != "llama" || GetParam().family == std::string("gemma")) return;
  v.merges.clear();  // SentencePiece's scores say the same as the merges
  expect_all_equal(check_hashes(*make_tokenizer(v), golden.at("hashes")));
}

TEST(Template, StandsAroundOneTextAndTwo) {
  const auto bert = make_tokenizer(family_vocabulary(golden_of("bert-uncased")));
  const int32_t a = bert->encode("a", Special::parse).at(0), b = bert->encode("b", Special::parse).at(0);
  EXPECT_THAT(encode_document(*bert, "a", Special::parse), ElementsAre(2, a, 3));
  EXPECT_THAT(encode_prompt(*bert, "a", Special::parse), ElementsAre(2, a));
  const TextPair pair = encode_pair(*bert, "a", "b", Special::parse);
  EXPECT_THAT(pair.ids, ElementsAre(2, a, 3, b, 3));
  EXPECT_THAT(pair.types, ElementsAre(0, 0, 0, 1, 1));
  const auto roberta = make_tokenizer(family_vocabulary(golden_of("roberta")));
  const TextPair two = encode_pair(*roberta, "", "", Special::parse);
  EXPECT_THAT(two.ids, ElementsAre(1, 2, 2, 2));
  EXPECT_THAT(two.types, ElementsAre(0, 0, 0, 0));
  const auto plain = make_tokenizer(family_vocabulary(golden_of("qwen2")));
  EXPECT_THROW(encode_pair(*plain, "a", "b", Special::parse), Error);
}

TEST(Template, IsOverruledByTheConfiguration) {
  const std::string file = family_json(golden_of("llama-2"));
  const auto ids = [&](std::string_view config) {
    return encode_document(*make_tokenizer(read_tokenizer_json(file, config)), "", Special::parse);
  };
  EXPECT_THAT(ids(""), ElementsAre(1));
  EXPECT_THAT(ids(R"({"eos_token": "</s>", "add_bos_token": true})"), ElementsAre(1));
  EXPECT_THAT(ids(R"({"eos_token": "</s>", "add_bos_token": false})"), ElementsAre());
  EXPECT_THAT(ids(R"({"eos_token": "</s>", "add_eos_token": true})"), ElementsAre(1, 2));
}

// A GGUF file may leave out whether texts begin with BOS: then its family is known to want it, or not.
TEST(Template, HasTheFamilysBosWhereAFileSaysNothing) {
  for (const auto& [family, wanted] :
       {std::pair("llama-2", true), {"llama-bpe", true}, {"tekken", true}, {"qwen2", false}}) {
    Vocabulary v = family_vocabulary(golden_of(family));
    v.pipeline.clear(), v.bos = 1, v.eos = 2;
    v.add_bos.reset(), v.add_eos.reset();
    EXPECT_EQ(make_tokenizer(v)->add_bos(), wanted) << family;
    v.add_bos = !wanted;
    EXPECT_EQ(make_tokenizer(v)->add_bos(), !wanted) << family;
  }
}

// Tokens that are plain text are found where specials are not.
TEST(AddedTokens, PlainOnesAreFoundInAnyText) {
  const auto tokenizer = make_tokenizer(family_vocabulary(golden_of("modern-bert")));
  EXPECT_EQ(tokenizer->encode("<tool>", Special::as_text).size(), 1u);
  EXPECT_EQ(tokenizer->encode("<|im_end|>", Special::parse).size(), 1u);
  EXPECT_GT(tokenizer->encode("<|im_end|>", Special::as_text).size(), 1u);
}

TEST(TextStart, LeavesOutTheSpaceOfAWholeTextOnly) {
  const auto tokenizer = make_tokenizer(family_vocabulary(golden_of("llama-2")));
  const std::vector<int32_t> ids = tokenizer->encode("the the", Special::parse);
  EXPECT_EQ(decode(*tokenizer, ids, false), "the the");
  std::string text;
  StreamDecoder continued(*tokenizer, false, TextStart::continued);
  for (const int32_t id : ids) continued.push(id, text);
  EXPECT_EQ(text, " the the");
}

TEST(RealVocabularies, MiniLmGivesTheIdsOfHuggingFace) {
  const char* folder = std::getenv("NEUTRINO_TEST_EMBEDDING_MODEL");
  const std::string path = std::string(folder ? folder : "") + "/tokenizer.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "all-MiniLM-L6-v2 is not there";
  const Vocabulary v = read_tokenizer_json(read_file(path, 16 << 20));
  EXPECT_EQ(v.tokens.size(), 30522u);
  expect_all_equal(check_hashes(*make_tokenizer(v), read_tokenizer_golden("real.json").at("minilm")));
}

}  // namespace
}  // namespace neutrino::tokenizer
