// Vocabularies through the keys of a GGUF file and back.
#include <gtest/gtest.h>

#include "tokenizer/family_golden.h"
#include "weights/gguf.h"
#include "weights/gguf_vocabulary_writer.h"

namespace neutrino::weights {
namespace {

using tokenizer::Vocabulary;

std::string header_of(const GgufKeyValues& key_values) {
  const GgufTensorInfo tensor{"t", compute::DType::f32, {1}};
  return gguf_header(key_values, {&tensor, 1});
}

Vocabulary read_back(GgufKeyValues key_values) {
  key_values.set("general.architecture", "llama");
  const std::string file = header_of(key_values) + std::string(32, '\0');
  return parse_gguf("vocabulary.gguf", std::as_bytes(std::span(file)))->vocabulary();
}

Vocabulary read_back(const Vocabulary& vocabulary) {
  GgufKeyValues key_values;
  set_gguf_vocabulary(key_values, vocabulary);
  return read_back(key_values);
}

Vocabulary unigram(std::vector<double> scores) {
  return {.model = "t5", .tokens = {"<unk>", "a", "b"}, .scores = std::move(scores), .unknown = 0};
}

TEST(GgufVocabulary, EveryFamilyComesBackAsItWasWritten) {
  int64_t beyond_float = 0;
  for (const std::string& family : tokenizer::family_names()) {
    const Vocabulary vocabulary =
        tokenizer::family_vocabulary(tokenizer::read_tokenizer_golden("families/" + family + ".json"));
    EXPECT_TRUE(read_back(vocabulary) == vocabulary) << family;
    for (const double score : vocabulary.scores) beyond_float += score != static_cast<float>(score);
  }
  EXPECT_GT(beyond_float, 1000);
}

TEST(GgufVocabulary, ScoresThatFloatHoldsAreWrittenOnce) {
  GgufKeyValues key_values;
  set_gguf_vocabulary(key_values, unigram({-1, -2.5, -3}));
  EXPECT_EQ(header_of(key_values).find("neutrino.tokenizer.scores"), std::string::npos);
}

TEST(GgufVocabulary, AScoreThatAnotherProgramChangedCounts) {
  GgufKeyValues key_values;
  set_gguf_vocabulary(key_values, unigram({-0.1, -0.2, -0.3}));
  key_values.set("tokenizer.ggml.scores", std::vector<float>{-0.1f, -7, -0.3f});
  EXPECT_EQ(read_back(key_values).scores, (std::vector<double>{-0.1, -7, -0.3}));
}

}  // namespace
}  // namespace neutrino::weights
