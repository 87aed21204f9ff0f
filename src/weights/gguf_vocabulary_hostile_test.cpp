// Vocabularies in the keys of GGUF files that lie, by the thousand: each is refused with an Error, or gives tokens. Made from
// the trained families' vocabularies, as convert writes them.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "base/testing/hostile_report.h"
#include "base/testing/json_mutator.h"
#include "tokenizer/hard_text.h"
#include "tokenizer/hostile_tokenizer.h"
#include "weights/gguf_vocabulary_writer.h"
#include "weights/testing/gguf_image_reader.h"
#include "weights/testing/gguf_mutator.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing
using tokenizer::Vocabulary;

std::vector<GgufKeyValue> entries_of(const Vocabulary& vocabulary) {
  GgufKeyValues key_values;
  set_gguf_vocabulary(key_values, vocabulary);
  const GgufTensorInfo tensor{"t", compute::DType::f32, {1}};
  const std::string header = gguf_header(key_values, {&tensor, 1});
  Reader reader(std::as_bytes(std::span(header)));
  reader.take(16, "magic, version and tensor count");
  std::vector<GgufKeyValue> entries(reader.number<uint64_t>("metadata count"));
  for (GgufKeyValue& entry : entries) {
    entry.key = reader.string(1 << 20, "key");
    entry.type = reader.number<uint32_t>("type");
    entry.payload = take_payload(reader, entry.type);
  }
  return entries;
}

// A file of one small tensor whose keys are `entries`.
std::string file_of(const std::vector<GgufKeyValue>& entries) {
  GgufImage image;
  image.metadata = {text_value("general.architecture", "llama")};
  image.metadata.insert(image.metadata.end(), entries.begin(), entries.end());
  image.tensors.push_back({.name = "t", .dimensions = {1}, .type = 0, .data = std::string(4, '\0')});
  layout(image);
  return serialise(image);
}

class VocabularyMutator {
 public:
  VocabularyMutator(Random& random, const std::vector<Vocabulary>& others)
      : random_(random), json_(random), others_(others) {}

  void change(Vocabulary& v) {
    switch (random_.below(9)) {
      case 0: pick(v.tokens) = odd_text(); return;
      case 1: pick(v.tokens) = pick(v.tokens); return;
      case 2: return change_kinds(v);
      case 3: return change_scores(v);
      case 4: return change_merges(v);
      case 5: return change_id(v);
      case 6: return change_name(v);
      case 7: return change_charsmap(v);
      default: return change_pipeline(v);
    }
  }

 private:
  template <typename T>
  T& pick(std::vector<T>& values) {
    return values[static_cast<size_t>(random_.below(static_cast<int64_t>(values.size())))];
  }
  template <typename T, size_t n>
  const T& pick(const T (&values)[n]) {
    return values[random_.below(n)];
  }
  const Vocabulary& other() {
    return others_[static_cast<size_t>(random_.below(static_cast<int64_t>(others_.size())))];
  }

  std::string odd_text() {
    static constexpr const char* kTexts[] = {"",     " ",    "a b",      "<0x-1>", "<0xGG>",     "<0x",
                                             "\xFF", "\xE4", "\xE4\xB8", "\u2581", "\u2581\xC3", "a\xF0\x9F"};
    if (random_.chance(0.9)) return pick(kTexts);
    return std::string(static_cast<size_t>(1) << (8 + random_.below(10)), 'a');
  }

  void change_kinds(Vocabulary& v) {
    if (v.kinds.empty()) return;
    if (random_.chance(0.3)) v.kinds.resize(v.kinds.size() + static_cast<size_t>(random_.below(3)) - 1);
    for (int64_t changes = random_.below(20); changes >= 0; --changes)
      pick(v.kinds) = static_cast<tokenizer::TokenKind>(random_.chance(0.9) ? 1 + random_.below(6)
                                                                            : random_.below(9) - 1);
  }

  void change_scores(Vocabulary& v) {
    static constexpr double kOdd[] = {0, -1, 3.4e38, -3.4e38, 1e-45, HUGE_VAL, -HUGE_VAL, NAN};
    if (v.scores.empty()) v.scores.assign(v.tokens.size(), -1);
    if (random_.chance(0.2)) v.scores.clear();
    for (int64_t changes = random_.below(4); changes >= 0 && !v.scores.empty(); --changes)
      pick(v.scores) = pick(kOdd);
  }

  void change_merges(Vocabulary& v) {
    static constexpr const char* kMerges[] = {"", " ", "ab", "a b c", " b", "a ", "zz zz", "\xFF \xFF"};
    if (v.merges.empty()) return v.merges.emplace_back("a b"), void();
    if (random_.chance(0.2)) return v.merges.clear();
    if (random_.chance(0.3)) pick(v.merges) = pick(kMerges);
    pick(v.merges) = random_.chance(0.5) ? pick(v.merges) : pick(v.tokens) + " " + pick(v.tokens);
  }

  void change_id(Vocabulary& v) {
    static constexpr int32_t kIds[] = {0, 1, 2, 299, 300, 65536, INT32_MAX, -1, INT32_MIN};
    std::optional<int32_t>* const ids[] = {&v.bos, &v.eos,       &v.unknown, &v.padding,
                                           &v.eot, &v.separator, &v.mask};
    if (random_.chance(0.2)) return v.stops.push_back(pick(kIds));
    *ids[random_.below(7)] = random_.chance(0.8) ? std::optional(pick(kIds)) : std::nullopt;
  }

  void change_name(Vocabulary& v) {
    static constexpr const char* kModels[] = {"llama",  "gpt2", "bert", "t5",
                                              "gemma4", "rwkv", "",     "no such model"};
    static constexpr const char* kNames[] = {"gpt-2", "qwen2",   "llama-bpe", "deepseek-v3",
                                             "",      "default", "no such"};
    if (random_.chance(0.5)) v.model = pick(kModels);
    if (random_.chance(0.5)) v.pre = pick(kNames);
    if (random_.chance(0.7)) v.pipeline.clear();
    if (random_.chance(0.2)) v.add_space_prefix = random_.chance(0.5);
  }

  void change_charsmap(Vocabulary& v) {
    std::string bytes = v.precompiled_charsmap;
    if (bytes.empty() || random_.chance(0.3)) {
      bytes.assign(static_cast<size_t>(4 + random_.below(600)), '\x04');
      for (char& c : bytes) c = static_cast<char>(random_.next());
      if (random_.chance(0.8)) bytes.replace(0, 4, std::string("\x40\0\0\0", 4));
    }
    for (int64_t changes = random_.below(8); changes > 0; --changes)
      bytes[static_cast<size_t>(random_.below(static_cast<int64_t>(bytes.size())))] ^=
          static_cast<char>(1 << random_.below(8));
    if (random_.chance(0.2))
      bytes.resize(static_cast<size_t>(random_.below(static_cast<int64_t>(bytes.size()))));
    v.precompiled_charsmap = bytes;
    if (random_.chance(0.5)) v.model = "t5", v.pipeline.clear(), v.scores.assign(v.tokens.size(), -1);
  }

  void change_pipeline(Vocabulary& v) {
    if (v.pipeline.empty() || random_.chance(0.15)) return v.pipeline = other().pipeline, void();
    json::value pipeline = parse_json(v.pipeline);
    json_.change(pipeline);
    v.pipeline = to_text(pipeline);
    if (random_.chance(0.2)) v.pipeline = json_.change_text(v.pipeline);
  }

  Random& random_;
  JsonMutator json_;
  const std::vector<Vocabulary>& others_;
};

std::vector<Vocabulary> small_vocabularies() {
  std::vector<Vocabulary> vocabularies;
  for (const json::value& file : tokenizer::small_family_files())
    vocabularies.push_back(tokenizer::read_tokenizer_json(to_text(file)));
  const size_t families = vocabularies.size();
  for (size_t i = 0; i < families; ++i) {  // as other programs write them: names in place of the pipeline
    vocabularies.push_back(vocabularies[i]);
    vocabularies.back().pipeline.clear();
  }
  return vocabularies;
}

TEST(GgufVocabularyHostile, thousands_of_mutated_vocabularies_are_refused_or_give_tokens) {
  const std::vector<Vocabulary> seeds = small_vocabularies();
  ASSERT_GE(seeds.size(), 40u);
  const std::string text = tokenizer::HardText(7).make(300);
  Random random(22);
  VocabularyMutator vocabulary_mutator(random, seeds);
  GgufMutator mutator(23);
  HostileReport report;
  while (report.files < budget(2000, 50'000)) {
    Vocabulary vocabulary = seeds[static_cast<size_t>(report.files) % seeds.size()];
    if (random.chance(0.7)) vocabulary_mutator.change(vocabulary);
    GgufImage image;
    image.metadata = entries_of(vocabulary);
    if (random.chance(0.4)) mutator.change_entry(image);
    const std::string file = file_of(image.metadata);
    // Its own allocation, of the exact size, so that AddressSanitizer sees the first byte read behind it.
    const std::unique_ptr<std::byte[]> bytes(new std::byte[file.size()]);
    std::memcpy(bytes.get(), file.data(), file.size());
    report.count({"magic", "version", "count_limit", "count_room", "truncated"}, [&] {
      const auto weights = parse_gguf("hostile.gguf", {bytes.get(), file.size()});
      const auto made = tokenizer::make_tokenizer(weights->vocabulary());
      const auto ids = encode_document(*made, text, tokenizer::Special::parse);
      decode(*made, ids, true);
    });
  }
  report.expect_thorough(15);
}

}  // namespace
}  // namespace neutrino::weights
