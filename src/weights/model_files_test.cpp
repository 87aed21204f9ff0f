#include "weights/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace neutrino::weights {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Names = std::vector<std::string>;

Error refusal(const Names& names, const FileChoice& choice = {}) {
  try {
    choose_files(names, choice);
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "nothing was thrown");
}

TEST(Glob, matches_stars_and_question_marks) {
  for (const auto& [text, pattern] : std::vector<std::pair<const char*, const char*>>{{"", ""},
                                                                                      {"", "*"},
                                                                                      {"abc", "*"},
                                                                                      {"abc", "a*c"},
                                                                                      {"abc", "a?c"},
                                                                                      {"a/b", "*b"},
                                                                                      {"aXbXc", "*X*"},
                                                                                      {"aab", "*ab"}})
    EXPECT_TRUE(matches_glob(text, pattern)) << text << " " << pattern;
  for (const auto& [text, pattern] : std::vector<std::pair<const char*, const char*>>{
           {"abc", ""}, {"", "?"}, {"abc", "a*d"}, {"abc", "ab"}, {"abc", "A*"}, {"a.b", "a[.]b"}})
    EXPECT_FALSE(matches_glob(text, pattern)) << text << " " << pattern;
  EXPECT_FALSE(matches_glob(std::string(20'000, 'a'), "*a*a*a*a*a*a*a*b"));  // not exponential
}

const Names kQuants = {"README.md",
                       "m-Q4_K_M.gguf",
                       "m-Q4_K_S.gguf",
                       "m-IQ4_XS.gguf",
                       "mmproj-m-f16.gguf",
                       "m.imatrix.gguf",
                       "big/m-Q8_0-00001-of-00002.gguf",
                       "big/m-Q8_0-00002-of-00002.gguf"};

TEST(ChooseFiles, picks_a_gguf_file_by_its_quantisation) {
  EXPECT_THAT(choose_files(kQuants, {.quant = "Q4_K_M"}), ElementsAre("m-Q4_K_M.gguf"));
  EXPECT_THAT(choose_files(kQuants, {.quant = "iq4_xs"}), ElementsAre("m-IQ4_XS.gguf"));
  EXPECT_THAT(choose_files(kQuants, {.quant = "Q8_0"}),
              ElementsAre("big/m-Q8_0-00001-of-00002.gguf", "big/m-Q8_0-00002-of-00002.gguf"));
  EXPECT_THAT(choose_files(kQuants, {}), ElementsAre("m-Q4_K_M.gguf"));
  const Error none = refusal(kQuants, {.quant = "Q4_K"});
  EXPECT_EQ(none.code(), ErrorCode::not_found);
  EXPECT_THAT(none.message(), HasSubstr("m-IQ4_XS"));
  EXPECT_THAT(none.message(), Not(HasSubstr("mmproj")));
  const Error many = refusal({"a-Q4_0.gguf", "b-Q4_0.gguf"}, {.quant = "Q4_0"});
  EXPECT_EQ(many.code(), ErrorCode::invalid_argument);
  EXPECT_THAT(many.message(), HasSubstr("b-Q4_0"));
  EXPECT_THAT(refusal({"m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf"}).message(),
              HasSubstr("00002-of-00003"));
}

TEST(ChooseFiles, the_rule_without_a_choice) {
  EXPECT_THAT(choose_files({"x.gguf", "README.md"}, {}), ElementsAre("x.gguf"));
  EXPECT_THAT(refusal({"m-Q5_0.gguf", "m-Q8_0.gguf"}).message(), HasSubstr("m-Q5_0"));
  EXPECT_THAT(refusal({"README.md"}).message(), HasSubstr("no model"));
  EXPECT_THAT(refusal({"config.json", "pytorch_model.bin"}).message(),
              HasSubstr("pickles (pytorch_model.bin)"));
  const Names checkpoint = {"config.json", "model.safetensors", "tokenizer.json"};
  Names both = checkpoint;
  both.insert(both.end(), {"m-Q4_0.gguf", "onnx/model.onnx", "pytorch_model.bin", ".gitattributes"});
  EXPECT_EQ(choose_files(both, {}), checkpoint);
  EXPECT_THAT(choose_files(both, {.quant = "q4_0"}), ElementsAre("m-Q4_0.gguf"));
}

TEST(ChooseFiles, include_and_exclude_replace_the_rule) {
  EXPECT_THAT(choose_files(kQuants, {.include = {"*Q4_K_S*"}}), ElementsAre("m-Q4_K_S.gguf"));
  EXPECT_THAT(choose_files(kQuants, {.include = {"*Q4_K*"}, .exclude = {"*_S.gguf"}}),
              ElementsAre("m-Q4_K_M.gguf"));
  EXPECT_THAT(refusal(kQuants, {.include = {"*.txt"}}).message(), HasSubstr("no file matches"));
  EXPECT_THAT(refusal(kQuants, {.include = {"*.gguf"}}).message(), HasSubstr("several GGUF files"));
}

TEST(CheckpointFiles, are_what_transformers_would_load) {
  EXPECT_THAT(checkpoint_files(
                  {"config.json", "model.safetensors", "model.fp16.safetensors", "consolidated.safetensors"}),
              ElementsAre("config.json", "model.safetensors"));
  EXPECT_THAT(checkpoint_files({"config.json", "model-00001-of-00002.safetensors",
                                "model-00002-of-00002.safetensors", "consolidated-00001-of-00001.safetensors",
                                "model.safetensors.index.json", "original/params.json"}),
              ElementsAre("config.json", "model-00001-of-00002.safetensors",
                          "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
  EXPECT_THAT(checkpoint_files({"1_Pooling/config.json", "2_Dense/model.safetensors", "config.json",
                                "model.safetensors", "modules.json", "onnx/config.json", "openvino/x.xml",
                                "LICENSE.txt", "README.md"}),
              ElementsAre("1_Pooling/config.json", "2_Dense/model.safetensors", "LICENSE.txt", "README.md",
                          "config.json", "model.safetensors", "modules.json"));
  EXPECT_THAT(checkpoint_files({"model.safetensors"}), IsEmpty());
  EXPECT_THAT(checkpoint_files({"config.json"}), IsEmpty());
}

TEST(MainFile, is_what_opens_the_model) {
  EXPECT_EQ(main_file({"config.json", "model.safetensors"}), "");
  EXPECT_EQ(main_file({"a-00002-of-00002.gguf", "a-00001-of-00002.gguf"}), "a-00001-of-00002.gguf");
  EXPECT_EQ(title_of({"q/a-00002-of-00002.gguf", "q/a-00001-of-00002.gguf"}), "a");
  EXPECT_EQ(title_of({"config.json", "model.safetensors"}), "");
  EXPECT_THROW(main_file({"a.gguf", "b.gguf"}), Error);
  EXPECT_THROW(main_file({"README.md"}), Error);
}

}  // namespace
}  // namespace neutrino::weights
