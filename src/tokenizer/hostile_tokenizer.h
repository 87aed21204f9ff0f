// For tests: hostile tokenizer.json files out of good ones, part by part: the pipeline's steps, their regular expressions and
// charsmaps, the vocabulary's ids and texts, the merges, the text itself.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/testing/json_mutator.h"
#include "tokenizer/family_golden.h"

namespace neutrino::tokenizer {

// The families' files with their first few hundred tokens: small enough to read thousands of them.
inline json::value small_family_file(const json::value& golden) {
  constexpr size_t kTokens = 300, kMerges = 150;
  json::value file = golden.at("tokenizer");
  json::object& model = file.as_object().at("model").as_object();
  if (model.contains("first_tokens")) {
    json::array& merges = model.at("merges").as_array();
    if (merges.size() > 2 * kMerges) merges.resize(2 * kMerges);
    unpack_model(model);
  } else if (model.at("vocab").is_array()) {
    model.at("vocab").as_array().resize(kTokens);
  } else {
    json::object vocab;
    for (const auto& [text, id] : model.at("vocab").as_object())
      if (id.as_int64() < static_cast<int64_t>(kTokens)) vocab[text] = id;
    model["vocab"] = std::move(vocab);
  }
  return file;
}

inline std::vector<json::value> small_family_files() {
  std::vector<json::value> files;
  for (const std::string& family : family_names())
    files.push_back(small_family_file(read_tokenizer_golden("families/" + family + ".json")));
  return files;
}

class TokenizerMutator {
 public:
  // `files`: others, whose parts get mixed in. Both must outlive the mutator.
  TokenizerMutator(Random& random, const std::vector<json::value>& files)
      : random_(random), json_(random), files_(files) {}

  JsonMutator& json() { return json_; }

  // 1-2 changes to a copy of `file`, as a text.
  std::string mutate(json::value file) {
    change(file.as_object());
    if (random_.chance(0.3)) change(file.as_object());
    std::string text = to_text(file);
    return random_.chance(0.12) ? json_.change_text(std::move(text)) : text;
  }

  void change(json::object& file) {
    const int64_t percent = random_.below(100);
    if (percent < 30)
      change_part(file);
    else if (percent < 40)
      mix(file);
    else if (percent < 55)
      change_texts(file);
    else if (percent < 75)
      change_vocabulary(file);
    else if (percent < 90)
      change_merges(file);
    else
      nest(file);
  }

 private:
  static constexpr const char* kParts[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder",
                                           "added_tokens"};

  template <typename T, size_t n>
  const T& pick(const T (&values)[n]) {
    return values[random_.below(n)];
  }
  size_t below(size_t count) { return static_cast<size_t>(random_.below(static_cast<int64_t>(count))); }

  // A field of a step or of the model's options, of another type, out of range, renamed or gone.
  void change_part(json::object& file) {
    if (!random_.chance(0.2)) {
      if (json::value* part = file.if_contains(pick(kParts))) json_.change(*part);
      return;
    }
    if (!file.contains("model") || !file.at("model").is_object()) return;
    json::object& model = file.at("model").as_object();
    json::value vocab = take(model, "vocab"), merges = take(model, "merges");
    json::value options = model;
    json_.change(options);
    if (options.is_object() && !vocab.is_null()) options.as_object()["vocab"] = std::move(vocab);
    if (options.is_object() && !merges.is_null()) options.as_object()["merges"] = std::move(merges);
    file["model"] = std::move(options);
  }

  static json::value take(json::object& object, std::string_view name) {
    json::value* value = object.if_contains(name);
    if (!value) return nullptr;
    json::value taken = std::move(*value);
    object.erase(name);
    return taken;
  }

  // A part of another family.
  void mix(json::object& file) {
    const json::object& other = files_[below(files_.size())].as_object();
    const char* name = random_.chance(0.2) ? "model" : pick(kParts);
    if (const json::value* part = other.if_contains(name)) file[name] = *part;
  }

  // A part in so many sequences, one in the other.
  void nest(json::object& file) {
    static constexpr std::pair<const char*, const char*> kLists[] = {{"normalizer", "normalizers"},
                                                                     {"pre_tokenizer", "pretokenizers"},
                                                                     {"post_processor", "processors"},
                                                                     {"decoder", "decoders"}};
    const auto& [name, list] = pick(kLists);
    json::value part = file.contains(name) ? file.at(name) : json::value(json::object());
    const int64_t depth = random_.chance(0.8) ? 1 + random_.below(8) : 100 + random_.below(200);
    for (int64_t i = 0; i < depth; ++i) {
      json::array steps{std::move(part)};
      if (depth < 10 && random_.chance(0.1)) steps.push_back(json::value(steps[0]));
      part = json::object{{"type", "Sequence"}, {list, std::move(steps)}};
    }
    file[name] = std::move(part);
  }

  // ---- texts of the pipeline: regular expressions, charsmaps, what is prepended and replaced

  void change_texts(json::object& file) {
    std::vector<json::value*> texts;
    for (const char* name : kParts)
      if (json::value* part = file.if_contains(name)) collect_texts(*part, texts);
    if (texts.empty()) return;
    json::string& text = texts[below(texts.size())]->as_string();
    std::string changed(text);
    for (int64_t changes = 1 + random_.below(3); changes > 0; --changes) change_text(changed);
    text = changed;
  }

  static void collect_texts(json::value& value, std::vector<json::value*>& texts) {
    if (value.is_string()) texts.push_back(&value);
    if (value.is_object())
      for (auto& member : value.as_object())
        if (member.key() != "type") collect_texts(member.value(), texts);
    if (value.is_array())
      for (json::value& element : value.as_array()) collect_texts(element, texts);
  }

  void change_text(std::string& text) {
    static constexpr const char* kBits[] = {"(",           ")",      "[",      "]",
                                            "[^",          "{",      "{1000}", "{0,999999999}",
                                            "*",           "+",      "?",      "|",
                                            "\\",          "\\p{",   "\\p{L}", "\\p{Greek}",
                                            "(?!",         "(?<=a)", "(?i:",   ".*",
                                            "(a+)+",       "\\s",    "^",      "$",
                                            "-",           "z-a",    "\u2581", "\xF0\x9F\x98\x80",
                                            "\\u{110000}", "A",      "=",      "/"};
    const size_t at = below(text.size() + 1);
    switch (random_.below(5)) {
      case 0: text.insert(at, pick(kBits)); return;
      case 1: text.erase(at, 1 + below(4)); return;
      case 2:
        if (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80)
          text[at] = static_cast<char>('!' + random_.below(90));
        return;
      case 3: text += text.substr(0, 2000); return;
      default:
        if (at < text.size()) text.insert(at, text.substr(at, below(20)));
    }
  }

  // ---- vocabulary

  // Ids at which sizes go wrong: twice, negative, just too large, far too large.
  json::value odd_id() {
    static constexpr int64_t kIds[] = {0,
                                       1,
                                       2,
                                       255,
                                       299,
                                       300,
                                       1000,
                                       65'000,
                                       1 << 22,
                                       1 << 24,
                                       INT32_MAX,
                                       int64_t{1} << 31,
                                       int64_t{1} << 32,
                                       INT64_MAX,
                                       -1,
                                       INT64_MIN};
    return random_.chance(0.85) ? json::value(pick(kIds)) : json_.odd_number();
  }

  std::string odd_text() {
    static constexpr const char* kTexts[] = {
        "",       " ",      "a b",     "<0x0A>",    "<0xGG>",           "<0x",
        "\u0120", "\u2581", "##",      "[UNK]",     "\u4E2D",           "\x7F",
        "\u0301", "</s>",   "\u0120a", "e\xCC\x81", "\xF4\x8F\xBF\xBF", "<|endoftext|>"};
    if (random_.chance(0.9)) return pick(kTexts);
    return std::string(static_cast<size_t>(1) << (8 + random_.below(10)), 'a');
  }

  void change_vocabulary(json::object& file) {
    json::value* model = file.if_contains("model");
    json::value* vocab = model && model->is_object() ? model->as_object().if_contains("vocab") : nullptr;
    if (!vocab) return;
    for (int64_t changes = 1 + random_.below(3); changes > 0; --changes) {
      if (vocab->is_object() && !vocab->as_object().empty())
        change_ids(vocab->as_object());
      else if (vocab->is_array() && !vocab->as_array().empty())
        change_scores(vocab->as_array());
    }
  }

  void change_ids(json::object& vocab) {
    auto token = vocab.begin() + static_cast<std::ptrdiff_t>(below(vocab.size()));
    switch (random_.below(4)) {
      case 0: token->value() = odd_id(); return;
      case 1: vocab[odd_text()] = odd_id(); return;
      case 2: {  // another text for a good id
        const json::value id = token->value();
        vocab.erase(token);
        vocab[odd_text()] = id;
        return;
      }
      default: vocab.erase(token);
    }
  }

  void change_scores(json::array& vocab) {
    json::value& token = vocab[below(vocab.size())];
    switch (random_.below(4)) {
      case 0: json_.change(token); return;
      case 1: token = json::array{json::value(odd_text()), json_.odd_number()}; return;
      case 2: token = vocab[below(vocab.size())]; return;
      default: vocab.erase(vocab.begin() + (&token - vocab.data()));
    }
  }

  // ---- merges

  void change_merges(json::object& file) {
    json::value* model = file.if_contains("model");
    json::value* list = model && model->is_object() ? model->as_object().if_contains("merges") : nullptr;
    if (!list || !list->is_array() || list->as_array().empty()) return change_vocabulary(file);
    json::array& merges = list->as_array();
    json::value& merge = merges[below(merges.size())];
    switch (random_.below(7)) {
      case 0: json_.change(merge); return;
      case 1: merge = json::value(odd_text()); return;
      case 2: merge = json::array{json::value(odd_text()), json::value(odd_text())}; return;
      case 3: merge = merges[below(merges.size())]; return;
      case 4: std::swap(merge, merges[below(merges.size())]); return;
      case 5: merges.erase(merges.begin() + (&merge - merges.data())); return;
      default: json_.change(*list);
    }
  }

  Random& random_;
  JsonMutator json_;
  const std::vector<json::value>& files_;
};

}  // namespace neutrino::tokenizer
