// tokenizer.json files that lie, by the thousand: each is refused with an Error, or gives tokens. Made from the trained
// families' files, cut to a few hundred tokens.
#include <gtest/gtest.h>

#include <memory>

#include "base/error.h"
#include "base/testing/hostile_report.h"
#include "tokenizer/family_golden.h"
#include "tokenizer/hard_text.h"
#include "tokenizer/hostile_tokenizer.h"

namespace neutrino::tokenizer {
namespace {

// Its own allocation, of the exact size, so that AddressSanitizer sees the first byte read behind it.
struct ExactText {
  std::unique_ptr<char[]> data;
  size_t size;
  explicit ExactText(const std::string& text) : data(new char[text.size()]), size(text.size()) {
    text.copy(data.get(), size);
  }
  std::string_view view() const { return {data.get(), size}; }
};

void use_all(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> ids = encode_document(tokenizer, text, Special::parse);
  for (const int32_t id : ids) {
    ASSERT_GE(id, 0);
    ASSERT_LT(id, tokenizer.size());
  }
  decode(tokenizer, ids, true);
  encode_prompt(tokenizer, text, Special::as_text);
  if (!tokenizer.pair_template().empty()) encode_pair(tokenizer, text, "a", Special::parse);
}

json::value config_of(const json::value&) {
  return json::object{{"bos_token", json::object{{"content", "<s>"}, {"lstrip", false}}},
                      {"eos_token", "</s>"},
                      {"unk_token", "<unk>"},
                      {"add_bos_token", true},
                      {"add_eos_token", false}};
}

TEST(HostileTokenizerFile, ThousandsOfMutatedFilesAreRefusedOrGiveTokens) {
  const std::vector<json::value> seeds = small_family_files();
  ASSERT_GE(seeds.size(), 20u);
  std::vector<std::string> texts;
  for (uint64_t seed = 0; seed < 16; ++seed) texts.push_back(HardText(seed).make(200));
  Random random(21);
  TokenizerMutator mutator(random, seeds);
  HostileReport report;
  while (report.files < budget(2000, 50'000)) {
    const auto round = static_cast<size_t>(report.files);
    json::value config = config_of(seeds[round % seeds.size()]),
                generation = json::object{{"eos_token_id", json::array{1, 2}}};
    ExactText file(to_text(seeds[round % seeds.size()]));
    if (random.chance(0.06))
      mutator.json().change(random.chance(0.5) ? config : generation);
    else
      file = ExactText(mutator.mutate(seeds[round % seeds.size()]));
    report.count({"invalid_json", "file_size"}, [&] {
      const auto tokenizer = make_tokenizer(
          read_tokenizer_json(file.view(), to_text(config), to_text(config), to_text(generation)));
      use_all(*tokenizer, texts[round % texts.size()]);
    });
  }
  report.expect_thorough(15);
}

}  // namespace
}  // namespace neutrino::tokenizer
