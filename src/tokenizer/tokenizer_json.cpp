#include "tokenizer/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "base/limits.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/pipeline.h"

namespace neutrino::tokenizer {
namespace {

constexpr std::string_view kWordStart = "\u2581";

// Ids that no token has become unused tokens. A small file must not ask for millions of those.
constexpr int64_t kUnusedIdsMax = 65536;

// The tokens by id while they are gathered: from the model first, then the added ones.
class TokenList {
 public:
  // `entries`: of the lists that the tokens come from.
  explicit TokenList(size_t entries) : ids_max_(static_cast<int64_t>(entries) + kUnusedIdsMax) {}

  void add(int32_t id, std::string text, TokenKind kind, double score = 0) {
    if (id >= ids_max_)
      throw bad_json("token_id",
                     "token \"{:.100}\" must have an id below {}, so that few ids are unused; got {}", text,
                     ids_max_, id);
    if (static_cast<size_t>(id) >= slots_.size()) slots_.resize(static_cast<size_t>(id) + 1);
    Slot& slot = slots_[static_cast<size_t>(id)];
    if (slot.taken)
      throw bad_json("token_id_twice", "tokens \"{:.100}\" and \"{:.100}\" have the same id {}", slot.text,
                     text, id);
    ids_.emplace(text, id);
    slot = {std::move(text), kind, score, true};
  }

  std::optional<int32_t> find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  size_t size() const { return slots_.size(); }
  const std::string& text(int32_t id) const { return slots_[static_cast<size_t>(id)].text; }
  TokenKind kind(int32_t id) const { return slots_[static_cast<size_t>(id)].kind; }
  void set_kind(int32_t id, TokenKind kind) { slots_[static_cast<size_t>(id)].kind = kind; }

  void move_into(Vocabulary& vocabulary) {
    for (size_t id = 0; id < slots_.size(); ++id) {
      Slot& slot = slots_[id];
      vocabulary.tokens.push_back(slot.taken ? std::move(slot.text) : "[PAD" + std::to_string(id) + "]");
      vocabulary.kinds.push_back(slot.taken ? slot.kind : TokenKind::unused);
      vocabulary.scores.push_back(slot.score);
    }
  }

 private:
  struct Slot {
    std::string text;
    TokenKind kind = TokenKind::unused;
    double score = 0;
    bool taken = false;
  };
  int64_t ids_max_;
  std::vector<Slot> slots_;
  std::unordered_map<std::string, int32_t> ids_;
};

int32_t token_id(const json::value& value, std::string_view text) {
  return static_cast<int32_t>(
      as_count(value, limits::kVocabularyTokens - 1, fmt::format("the id of token \"{:.100}\"", text)));
}

// {"token": id, ...}: of BPE and WordPiece.
void read_vocabulary_object(const json::object& model, TokenList& tokens) {
  const json::value* vocabulary = find_field(model, "vocab");
  if (!vocabulary) throw bad_json("vocabulary_missing", "the model must have a \"vocab\"");
  for (const auto& [text, id] : as_object(*vocabulary, "\"vocab\""))
    tokens.add(token_id(id, text), std::string(text), TokenKind::normal);
}

// [["token", score], ...] by id: of Unigram.
void read_scored_vocabulary(const json::object& model, TokenList& tokens) {
  const json::value* vocabulary = find_field(model, "vocab");
  if (!vocabulary) throw bad_json("vocabulary_missing", "the model must have a \"vocab\"");
  const json::array& list = as_array(*vocabulary, "\"vocab\"");
  if (static_cast<int64_t>(list.size()) > limits::kVocabularyTokens)
    throw bad_json("vocabulary_size", "\"vocab\" must have at most {} tokens, got {}",
                   limits::kVocabularyTokens, list.size());
  for (size_t id = 0; id < list.size(); ++id) {
    const json::array& pair = as_array(list[id], "a token of \"vocab\"");
    if (pair.size() != 2 || !pair[1].is_number())
      throw bad_json("token_score", "token {} must be a text and a score", id);
    tokens.add(static_cast<int32_t>(id), std::string(as_text(pair[0], "a token of \"vocab\"")),
               TokenKind::normal, pair[1].to_number<double>());
  }
}

// "left right", or ["left", "right"] in newer files.
std::vector<std::string> read_merges(const json::object& model) {
  std::vector<std::string> merges;
  const json::value* list = find_field(model, "merges");
  if (!list) return merges;
  for (const json::value& merge : as_array(*list, "\"merges\"")) {
    if (merge.is_string()) {
      merges.emplace_back(merge.get_string());
      continue;
    }
    const json::array& pair = as_array(merge, "a merge");
    if (pair.size() != 2)
      throw bad_json("merge", "merge {} must be two tokens, got {}", merges.size(), pair.size());
    const std::string_view left = as_text(pair[0], "a merge"), right = as_text(pair[1], "a merge");
    if (left.find(' ') != left.npos || right.find(' ') != right.npos)
      throw make_error(ErrorCode::unimplemented, "merge {} must be of tokens without a space", merges.size())
          .with_reason("merge");
    merges.push_back(fmt::format("{} {}", left, right));
  }
  return merges;
}

void read_added_tokens(const json::object& file, TokenList& tokens) {
  const json::value* list = find_field(file, "added_tokens");
  if (!list) return;
  for (const json::value& value : as_array(*list, "\"added_tokens\"")) {
    const json::object& token = as_object(value, "an added token");
    const std::string text(text_field(token, "content"));
    const TokenKind kind = bool_field(token, "special", false) ? TokenKind::control : TokenKind::user_defined;
    if (const auto id = tokens.find(text)) {
      tokens.set_kind(*id, kind);
      continue;
    }
    const json::value* id = find_field(token, "id");
    if (!id) throw bad_json("added_token", "the added token \"{:.100}\" must have an id", text);
    tokens.add(token_id(*id, text), text, kind);
  }
}

std::string_view model_type(const json::object& model) {
  if (const json::value* type = find_field(model, "type")) return as_text(*type, "the model's type");
  if (find_field(model, "merges")) return "BPE";  // files of before the type was written
  if (find_field(model, "continuing_subword_prefix")) return "WordPiece";
  return "Unigram";
}

// The steps of a component that may be a sequence of them.
std::vector<const json::object*> steps_of(const json::object& file, std::string_view name,
                                          std::string_view list) {
  std::vector<const json::object*> steps, open;
  const json::value* value = find_field(file, name);
  if (value) open.push_back(&as_object(*value, name));
  while (!open.empty()) {
    const json::object* step = open.back();
    open.pop_back();
    const json::value* members = find_field(*step, list);
    if (!members) {
      steps.push_back(step);
      continue;
    }
    const json::array& array = as_array(*members, list);
    for (auto member = array.rbegin(); member != array.rend(); ++member)
      open.push_back(&as_object(*member, list));
  }
  return steps;
}

bool has_byte_level(const json::object& file) {
  for (const json::object* step : steps_of(file, "pre_tokenizer", "pretokenizers"))
    if (text_field(*step, "type") == "ByteLevel") return true;
  return false;
}

// Everything but the vocabulary, as one small text.
std::string pipeline_text(const json::object& file, const json::object& model) {
  json::object pipeline, options;
  for (const auto& [name, value] : model)
    if (name != "vocab" && name != "merges") options[name] = value;
  options["type"] = model_type(model);
  pipeline["model"] = std::move(options);
  for (const std::string_view name :
       {"normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"})
    if (const json::value* value = find_field(file, name)) pipeline[name] = *value;
  return to_text(pipeline);
}

// GGUF's form of WordPiece: a word's start is marked, its continuation is not.
void mark_word_starts(const json::object& model, Vocabulary& vocabulary) {
  const std::string prefix = optional_text(model, "continuing_subword_prefix").value_or("##");
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    std::string& text = vocabulary.tokens[id];
    if (vocabulary.kinds[id] != TokenKind::normal || (text.starts_with('[') && text.ends_with(']'))) continue;
    text = text.starts_with(prefix) ? text.substr(prefix.size()) : std::string(kWordStart) += text;
  }
}

bool is_byte_token(std::string_view text) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && is_hex(text[3]) && is_hex(text[4]) && text[5] == '>';
}

void mark_byte_tokens(Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
    if (vocabulary.kinds[id] == TokenKind::normal && is_byte_token(vocabulary.tokens[id]))
      vocabulary.kinds[id] = TokenKind::byte;
}

// SentencePiece's form of BPE ranks a token by its score: here, by the first merge that makes it.
void score_by_merges(Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) ids.emplace(vocabulary.tokens[id], id);
  const double lowest = -static_cast<double>(vocabulary.merges.size()) - 1;
  vocabulary.scores.assign(vocabulary.tokens.size(), lowest);
  for (size_t rank = vocabulary.merges.size(); rank-- > 0;) {
    std::string made = vocabulary.merges[rank];
    if (const size_t space = made.find(' '); space != made.npos) made.erase(space, 1);
    if (const auto found = ids.find(made); found != ids.end())
      vocabulary.scores[found->second] = -static_cast<double>(rank);
  }
}

size_t entries(const json::object& object, std::string_view name) {
  const json::value* value = find_field(object, name);
  return !value               ? 0
         : value->is_array()  ? value->get_array().size()
         : value->is_object() ? value->get_object().size()
                              : 0;
}

void read_model(const json::object& file, const json::object& model, Vocabulary& vocabulary) {
  const std::string_view type = model_type(model);
  TokenList tokens(entries(model, "vocab") + entries(file, "added_tokens"));
  if (type == "Unigram")
    read_scored_vocabulary(model, tokens);
  else if (type == "BPE" || type == "WordPiece")
    read_vocabulary_object(model, tokens);
  else
    throw make_error(ErrorCode::unimplemented,
                     "the tokenizer's model must be BPE, Unigram or WordPiece; got \"{:.100}\"", type)
        .with_reason("model_type");
  if (type == "BPE") vocabulary.merges = read_merges(model);
  read_added_tokens(file, tokens);
  if (const json::value* id = find_field(model, "unk_id"))
    vocabulary.unknown = token_id(*id, "unk_id");
  else if (const auto text = optional_text(model, "unk_token"))
    vocabulary.unknown = tokens.find(*text);
  if (vocabulary.unknown && *vocabulary.unknown < static_cast<int32_t>(tokens.size()) && type != "BPE")
    tokens.set_kind(*vocabulary.unknown, TokenKind::unknown);
  tokens.move_into(vocabulary);
  vocabulary.model = type == "Unigram"      ? "t5"
                     : type == "WordPiece"  ? "bert"
                     : has_byte_level(file) ? "gpt2"
                                            : "llama";
  if (vocabulary.model == "gpt2") vocabulary.scores.clear();
  if (vocabulary.model == "bert") mark_word_starts(model, vocabulary), vocabulary.scores.clear();
  if (vocabulary.model == "llama" || vocabulary.model == "t5") mark_byte_tokens(vocabulary);
  if (vocabulary.model == "llama") score_by_merges(vocabulary);
}

// The fields by which other programs, which read GGUF's keys alone, know what the pipeline says.
void set_from_pipeline(const Pipeline& pipeline, Vocabulary& vocabulary) {
  if (vocabulary.model == "gpt2") vocabulary.pre = pre_tokenizer_name(pipeline);
  bool prefix = false, collapses = false;
  for (const Normalizer& step : pipeline.normalizers) {
    if (step.kind == Normalizer::Kind::precompiled) vocabulary.precompiled_charsmap = step.content;
    prefix = prefix || step.kind == Normalizer::Kind::prepend;
    collapses = collapses || (step.kind == Normalizer::Kind::replace && step.pattern.source() == " {2,}");
  }
  for (const PreTokenizer& step : pipeline.pre_tokenizers)
    prefix = prefix || step.kind == PreTokenizer::Kind::space ||
             (step.kind == PreTokenizer::Kind::metaspace && step.prepend != PreTokenizer::Prepend::never);
  if (vocabulary.model != "bert") vocabulary.add_space_prefix = prefix;
  if (vocabulary.model == "t5") vocabulary.remove_extra_whitespaces = collapses;
  const auto& items = pipeline.single;
  if (items.size() < 2) return;
  if (items.front().kind == TemplateItem::Kind::token)
    vocabulary.bos = items.front().id, vocabulary.add_bos = true;
  if (items.back().kind == TemplateItem::Kind::token) {
    vocabulary.add_eos = true;
    (vocabulary.model == "bert" ? vocabulary.separator : vocabulary.eos) = items.back().id;
  }
}

// "<s>", or {"content": "<s>", ...}
std::optional<std::string> special_text(const json::object& config, std::string_view name) {
  const json::value* value = find_field(config, name);
  if (!value) return std::nullopt;
  if (value->is_object()) return optional_text(value->get_object(), "content");
  return std::string(as_text(*value, name));
}

class SpecialIds {
 public:
  explicit SpecialIds(const Vocabulary& vocabulary) {
    for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
      ids_.emplace(vocabulary.tokens[id], static_cast<int32_t>(id));
  }
  void read(const json::object& config, std::string_view name, std::optional<int32_t>& id) const {
    const auto text = special_text(config, name);
    const auto found = text && !id ? ids_.find(*text) : ids_.end();
    if (found != ids_.end()) id = found->second;
  }

 private:
  std::unordered_map<std::string_view, int32_t> ids_;
};

void read_config(const json::object& config, Vocabulary& vocabulary) {
  const SpecialIds ids(vocabulary);
  ids.read(config, "bos_token", vocabulary.bos);
  ids.read(config, "cls_token", vocabulary.bos);
  ids.read(config, "eos_token", vocabulary.eos);
  ids.read(config, "unk_token", vocabulary.unknown);
  ids.read(config, "pad_token", vocabulary.padding);
  ids.read(config, "sep_token", vocabulary.separator);
  ids.read(config, "mask_token", vocabulary.mask);
  if (const auto add = optional_bool(config, "add_bos_token")) vocabulary.add_bos = add;
  if (const auto add = optional_bool(config, "add_eos_token")) vocabulary.add_eos = add;
}

// "eos_token_id": 2 or [2, 7].
void read_generation_config(const json::object& config, Vocabulary& vocabulary) {
  const json::value* value = find_field(config, "eos_token_id");
  if (!value) return;
  const json::array list = value->is_array() ? value->get_array() : json::array{*value};
  for (const json::value& id : list) {
    const int32_t token = token_id(id, "eos_token_id");
    if (static_cast<size_t>(token) >= vocabulary.tokens.size())
      throw bad_json("special_id", "eos_token_id must be 0-{}, got {}", vocabulary.tokens.size() - 1, token);
    vocabulary.stops.push_back(token);
    if (!vocabulary.eos) vocabulary.eos = token;
  }
}

json::object parse_file(std::string_view text, std::string_view name) {
  if (text.empty()) return {};
  if (static_cast<int64_t>(text.size()) > limits::kTokenizerJsonBytes)
    throw bad_json("file_size", "{} must have at most {} bytes, got {}", name, limits::kTokenizerJsonBytes,
                   text.size());
  json::value value = parse_json(text, limits::kTokenizerJsonValues);
  as_object(value, name);
  return std::move(value.get_object());
}

}  // namespace

Vocabulary read_tokenizer_json(std::string_view tokenizer_json, std::string_view tokenizer_config,
                               std::string_view special_tokens_map, std::string_view generation_config) {
  const json::object file = parse_file(tokenizer_json, "tokenizer.json");
  const json::value* model = find_field(file, "model");
  if (!model) throw bad_json("model_missing", "tokenizer.json must have a \"model\"");
  Vocabulary vocabulary;
  read_model(file, as_object(*model, "\"model\""), vocabulary);
  vocabulary.pipeline = pipeline_text(file, as_object(*model, "\"model\""));
  set_from_pipeline(read_pipeline(vocabulary), vocabulary);
  read_config(parse_file(tokenizer_config, "tokenizer_config.json"), vocabulary);
  read_config(parse_file(special_tokens_map, "special_tokens_map.json"), vocabulary);
  read_generation_config(parse_file(generation_config, "generation_config.json"), vocabulary);
  return vocabulary;
}

}  // namespace neutrino::tokenizer
