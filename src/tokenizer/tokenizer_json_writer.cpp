// A vocabulary as tokenizer.json: the way back from read_tokenizer_json().
#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/tokenizer_json_writer.h"

namespace neutrino::tokenizer {
namespace {

constexpr std::string_view kWordStart = "\u2581";

json::object vocabulary_object(const Vocabulary& vocabulary) {
  json::object ids;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) ids[vocabulary.tokens[id]] = id;
  return ids;
}

json::array merges_array(const std::vector<std::string>& merges) {
  json::array list;
  for (const std::string& merge : merges) {
    const size_t space = merge.find(' ', 1);
    list.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  return list;
}

// SentencePiece's scores as merges: every way to make a token of two others, best token first.
std::vector<std::string> merges_of_scores(const Vocabulary& vocabulary) {
  std::map<std::string_view, size_t> ids;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) ids.emplace(vocabulary.tokens[id], id);
  std::vector<std::tuple<double, size_t, size_t, std::string>> merges;  // -score, left, right
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string_view token = vocabulary.tokens[id];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.emplace_back(-vocabulary.scores[id], left->second, right->second,
                            fmt::format("{} {}", left->first, right->first));
    }
  }
  std::sort(merges.begin(), merges.end());
  std::vector<std::string> texts;
  for (auto& merge : merges) texts.push_back(std::move(std::get<3>(merge)));
  return texts;
}

json::array added_tokens(const Vocabulary& vocabulary) {
  json::array tokens;
  for (size_t id = 0; id < vocabulary.kinds.size(); ++id) {
    const TokenKind kind = vocabulary.kinds[id];
    if (kind != TokenKind::control && kind != TokenKind::user_defined && kind != TokenKind::unknown) continue;
    tokens.push_back({{"id", id},
                      {"content", vocabulary.tokens[id]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", kind != TokenKind::user_defined}});
  }
  return tokens;
}

// What a byte-level vocabulary's `pre` stands for.
json::object byte_level_pipeline(const Vocabulary& vocabulary) {
  json::array steps;
  for (const PreTokenizer& step : make_pipeline(vocabulary).pre_tokenizers) {
    if (step.kind != PreTokenizer::Kind::split || step.delimiters != Delimiters::isolated || step.inverted)
      throw make_error(ErrorCode::unimplemented,
                       "the pre-tokenizer \"{}\" cannot be written as tokenizer.json", vocabulary.pre);
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", step.pattern.source()}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  json::object byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  steps.push_back(byte_level);
  return {{"model", {{"type", "BPE"}, {"byte_fallback", false}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"added_tokens", added_tokens(vocabulary)}};
}

json::object replace_step(std::string_view from, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

json::object sentencepiece_pipeline(const Vocabulary& vocabulary) {
  const bool prefix = vocabulary.add_space_prefix.value_or(true);
  json::array normalizers, decoders;
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kWordStart}});
  normalizers.push_back(replace_step(" ", kWordStart));
  decoders.push_back(replace_step(kWordStart, " "));
  decoders.push_back(json::object{{"type", "ByteFallback"}});
  decoders.push_back(json::object{{"type", "Fuse"}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  json::object model{{"type", "BPE"}, {"byte_fallback", true}, {"fuse_unk", true}};
  if (vocabulary.unknown) model["unk_token"] = vocabulary.tokens[static_cast<size_t>(*vocabulary.unknown)];
  return {{"model", std::move(model)},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}}},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
          {"added_tokens", added_tokens(vocabulary)}};
}

json::object pipeline_of(const Vocabulary& vocabulary) {
  if (!vocabulary.pipeline.empty()) return parse_json(vocabulary.pipeline).as_object();
  if (vocabulary.model == "gpt2") return byte_level_pipeline(vocabulary);
  if (vocabulary.model == "llama") return sentencepiece_pipeline(vocabulary);
  throw make_error(ErrorCode::unimplemented,
                   "a tokenizer of model \"{}\" cannot be written as tokenizer.json unless it came from one",
                   vocabulary.model);
}

// WordPiece's words as tokenizer.json has them.
std::vector<std::string> word_pieces(const Vocabulary& vocabulary, std::string_view prefix) {
  std::vector<std::string> tokens = vocabulary.tokens;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!vocabulary.kinds.empty() && vocabulary.kinds[id] != TokenKind::normal) continue;
    if (tokens[id].starts_with('[') && tokens[id].ends_with(']')) continue;
    tokens[id] = tokens[id].starts_with(kWordStart) ? tokens[id].substr(kWordStart.size())
                                                    : std::string(prefix) + tokens[id];
  }
  return tokens;
}

void fill_model(const Vocabulary& vocabulary, json::object& model) {
  const std::string type(model.at("type").as_string());
  if (type == "Unigram") {
    json::array list;
    for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
      list.push_back({vocabulary.tokens[id], vocabulary.scores[id]});
    model["vocab"] = std::move(list);
  } else if (type == "WordPiece") {
    const json::value* prefix = model.if_contains("continuing_subword_prefix");
    Vocabulary words = vocabulary;
    words.tokens = word_pieces(vocabulary,
                               prefix && prefix->is_string() ? std::string_view(prefix->get_string()) : "##");
    model["vocab"] = vocabulary_object(words);
  } else {
    model["vocab"] = vocabulary_object(vocabulary);
    model["merges"] =
        merges_array(vocabulary.merges.empty() && vocabulary.model == "llama" ? merges_of_scores(vocabulary)
                                                                              : vocabulary.merges);
  }
}

}  // namespace

std::string write_tokenizer_json(const Vocabulary& vocabulary) {
  const json::object pipeline = pipeline_of(vocabulary);
  json::object file{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  for (const char* name : {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"})
    file[name] = pipeline.contains(name) ? pipeline.at(name) : json::value(nullptr);
  json::object model = pipeline.at("model").as_object();
  fill_model(vocabulary, model);
  file["model"] = std::move(model);
  return to_text(file);
}

}  // namespace neutrino::tokenizer
