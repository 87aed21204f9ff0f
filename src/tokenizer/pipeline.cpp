// A tokenizer.json's normaliser, pre-tokenizer, post-processor, decoder and added tokens, read into a Pipeline.
#include "tokenizer/pipeline.h"

#include <unordered_map>

#include "base/limits.h"
#include "tokenizer/base64.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/unicode.h"

namespace neutrino::tokenizer {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Error unknown(std::string_view what, std::string_view type) {
  return make_error(ErrorCode::unimplemented, "the {} \"{:.100}\" is not known", what, type)
      .with_reason("unknown_step");
}

// The steps of a component that may be a sequence of them.
std::vector<const json::object*> steps_of(const json::object& file, std::string_view name,
                                          std::string_view list) {
  std::vector<const json::object*> steps, open;
  if (const json::value* value = find_field(file, name)) open.push_back(&as_object(*value, name));
  while (!open.empty()) {
    const json::object* step = open.back();
    open.pop_back();
    if (text_field(*step, "type") != "Sequence") {
      steps.push_back(step);
      continue;
    }
    const json::value* members = find_field(*step, list);
    if (!members) throw bad_json("json_field", "a Sequence must have \"{}\"", list);
    const json::array& array = as_array(*members, list);
    for (auto member = array.rbegin(); member != array.rend(); ++member)
      open.push_back(&as_object(*member, list));
  }
  return steps;
}

// {"String": "x"} or {"Regex": "x"}
Pattern read_pattern(const json::object& step) {
  const json::value* value = find_field(step, "pattern");
  if (!value) throw bad_json("json_field", "a step must have a \"pattern\"");
  const json::object& pattern = as_object(*value, "\"pattern\"");
  if (const auto text = optional_text(pattern, "String")) return Pattern::literal(*text);
  return Pattern::regex(text_field(pattern, "Regex"));
}

Normalizer read_bert_normalizer(const json::object& step) {
  const bool lower = bool_field(step, "lowercase", true);
  return {.kind = Normalizer::Kind::bert,
          .clean_text = bool_field(step, "clean_text", true),
          .chinese = bool_field(step, "handle_chinese_chars", true),
          .accents = bool_field(step, "strip_accents", lower),
          .lower = lower};
}

Normalizer read_normalizer(const json::object& step) {
  using enum Normalizer::Kind;
  const std::string_view type = text_field(step, "type");
  if (type == "NFC") return {.kind = nfc};
  if (type == "NFD") return {.kind = nfd};
  if (type == "NFKC") return {.kind = nfkc};
  if (type == "NFKD") return {.kind = nfkd};
  if (type == "Lowercase") return {.kind = lowercase};
  if (type == "StripAccents") return {.kind = strip_accents};
  if (type == "Nmt") return {.kind = nmt};
  if (type == "BertNormalizer") return read_bert_normalizer(step);
  if (type == "Strip")
    return {.kind = strip,
            .left = bool_field(step, "strip_left", true),
            .right = bool_field(step, "strip_right", true)};
  if (type == "Prepend") return {.kind = prepend, .content = std::string(text_field(step, "prepend"))};
  if (type == "Replace")
    return {
        .kind = replace, .content = std::string(text_field(step, "content")), .pattern = read_pattern(step)};
  if (type == "Precompiled")
    return {.kind = precompiled, .content = decode_base64(text_field(step, "precompiled_charsmap"))};
  throw unknown("normaliser", type);
}

Delimiters read_delimiters(const json::object& step) {
  const std::string name = optional_text(step, "behavior").value_or("Isolated");
  if (name == "Isolated") return Delimiters::isolated;
  if (name == "Removed") return Delimiters::removed;
  if (name == "MergedWithPrevious") return Delimiters::merged_with_previous;
  if (name == "MergedWithNext") return Delimiters::merged_with_next;
  if (name == "Contiguous") return Delimiters::contiguous;
  throw unknown("split behaviour", name);
}

PreTokenizer split_at(Pattern pattern, Delimiters delimiters = Delimiters::isolated, bool inverted = false) {
  return {.kind = PreTokenizer::Kind::split,
          .pattern = std::move(pattern),
          .delimiters = delimiters,
          .inverted = inverted};
}

PreTokenizer read_metaspace(const json::object& step) {
  PreTokenizer metaspace{.kind = PreTokenizer::Kind::metaspace,
                         .content = std::string(text_field(step, "replacement")),
                         .split = bool_field(step, "split", true)};
  const std::string scheme = optional_text(step, "prepend_scheme")
                                 .value_or(bool_field(step, "add_prefix_space", true) ? "always" : "never");
  if (scheme == "always")
    metaspace.prepend = PreTokenizer::Prepend::always;
  else if (scheme == "first")
    metaspace.prepend = PreTokenizer::Prepend::first;
  else if (scheme != "never")
    throw unknown("prepend scheme", scheme);
  if (metaspace.content.empty())
    throw bad_json("metaspace", "the \"replacement\" of Metaspace must be a character");
  return metaspace;
}

void read_byte_level(const json::object& step, std::vector<PreTokenizer>& out) {
  if (bool_field(step, "add_prefix_space", true)) out.push_back({.kind = PreTokenizer::Kind::space});
  if (bool_field(step, "use_regex", true)) out.push_back(split_at(Pattern::regex(kGpt2)));
}

void read_pre_tokenizer(const json::object& step, std::vector<PreTokenizer>& out) {
  const std::string_view type = text_field(step, "type");
  if (type == "ByteLevel") return read_byte_level(step, out);
  if (type == "Metaspace") return out.push_back(read_metaspace(step));
  if (type == "Split")
    return out.push_back(
        split_at(read_pattern(step), read_delimiters(step), bool_field(step, "invert", false)));
  if (type == "Digits")
    return out.push_back(split_at(Pattern::any_of(kDigit), bool_field(step, "individual_digits", false)
                                                               ? Delimiters::isolated
                                                               : Delimiters::contiguous));
  if (type == "Punctuation")
    return out.push_back(split_at(Pattern::any_of(kBertPunctuation), read_delimiters(step)));
  if (type == "WhitespaceSplit")
    return out.push_back(split_at(Pattern::any_of(kWhiteSpace), Delimiters::removed));
  if (type == "Whitespace") {  // \w+|[^\w\s]+
    out.push_back(split_at(Pattern::runs_of(kSpace), Delimiters::removed));
    return out.push_back(split_at(Pattern::runs_of(kJoinedWord)));
  }
  if (type == "CharDelimiterSplit")
    return out.push_back(split_at(Pattern::literal(text_field(step, "delimiter")), Delimiters::removed));
  if (type != "BertPreTokenizer") throw unknown("pre-tokenizer", type);
  out.push_back(split_at(Pattern::any_of(kWhiteSpace), Delimiters::removed));
  out.push_back(split_at(Pattern::any_of(kBertPunctuation)));
}

std::vector<PreTokenizer> read_pre_tokenizers(const json::object& file) {
  std::vector<PreTokenizer> steps;
  bool bytes = false;
  for (const json::object* step : steps_of(file, "pre_tokenizer", "pretokenizers")) {
    // Behind ByteLevel a step would see bytes in disguise.
    if (bytes)
      throw make_error(ErrorCode::unimplemented, "a pre-tokenizer behind ByteLevel is not known")
          .with_reason("unknown_step");
    bytes = text_field(*step, "type") == "ByteLevel";
    read_pre_tokenizer(*step, steps);
  }
  return steps;
}

using IdByText = std::unordered_map<std::string_view, int32_t>;

std::vector<AddedToken> read_added_tokens(const json::object& file, const IdByText& ids) {
  std::vector<AddedToken> tokens;
  const json::value* list = find_field(file, "added_tokens");
  if (!list) return tokens;
  for (const json::value& value : as_array(*list, "\"added_tokens\"")) {
    const json::object& token = as_object(value, "an added token");
    const std::string_view text = text_field(token, "content");
    const auto id = ids.find(text);
    if (id == ids.end())
      throw bad_json("added_token", "the added token \"{:.100}\" is not in the vocabulary", text);
    const bool special = bool_field(token, "special", false);
    if (text.empty()) continue;
    tokens.push_back({.id = id->second,
                      .text = std::string(text),
                      .special = special,
                      .left_strip = bool_field(token, "lstrip", false),
                      .right_strip = bool_field(token, "rstrip", false),
                      .single_word = bool_field(token, "single_word", false),
                      .normalized = bool_field(token, "normalized", !special)});
  }
  return tokens;
}

// Post-processors: templates of special tokens around one text and around two.
class TemplateReader {
 public:
  TemplateReader(const IdByText& ids, size_t tokens, Pipeline& out) : ids_(ids), tokens_(tokens), out_(out) {}

  void read(const json::object& step) {
    const std::string_view type = text_field(step, "type");
    if (type == "ByteLevel") return;  // about offsets only
    if (!out_.single.empty())
      throw make_error(ErrorCode::unimplemented, "two templates in a row are not known")
          .with_reason("template");
    if (type == "TemplateProcessing") {
      out_.single = read_template(step, "single");
      out_.pair = read_template(step, "pair");
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      read_fixed(step, type == "RobertaProcessing");
    } else {
      throw unknown("post-processor", type);
    }
  }

 private:
  using Kind = TemplateItem::Kind;

  // <s> first </s></s> second </s>, or [CLS] first [SEP] second [SEP].
  void read_fixed(const json::object& step, bool roberta) {
    const int32_t begin = token_of(step, "cls"), end = token_of(step, "sep"), second = roberta ? 0 : 1;
    out_.single = {{Kind::token, begin, 0}, {Kind::first, 0, 0}, {Kind::token, end, 0}};
    out_.pair = out_.single;
    if (roberta) out_.pair.push_back({Kind::token, end, 0});
    out_.pair.push_back({Kind::second, 0, second});
    out_.pair.push_back({Kind::token, end, second});
  }

  // "sep": ["[SEP]", 102]
  int32_t token_of(const json::object& step, std::string_view name) const {
    const json::value* value = find_field(step, name);
    if (!value || !value->is_array() || value->get_array().size() != 2)
      throw bad_json("template", "\"{}\" must be a token and its id", name);
    return checked(value->get_array()[1], name);
  }

  std::vector<TemplateItem> read_template(const json::object& step, std::string_view name) const {
    std::vector<TemplateItem> items;
    const json::value* list = find_field(step, name);
    if (!list) return items;
    for (const json::value& value : as_array(*list, name)) {
      const json::object& item = as_object(value, name);
      if (const json::value* sequence = find_field(item, "Sequence")) {
        const json::object& text = as_object(*sequence, "\"Sequence\"");
        const bool first = text_field(text, "id") == "A";
        items.push_back({first ? Kind::first : Kind::second, 0, type_of(text)});
      } else if (const json::value* special = find_field(item, "SpecialToken")) {
        add_special(step, as_object(*special, "\"SpecialToken\""), items);
      } else {
        throw bad_json("template", "a template's item must be a Sequence or a SpecialToken");
      }
    }
    return items;
  }

  void add_special(const json::object& step, const json::object& special,
                   std::vector<TemplateItem>& items) const {
    const std::string_view name = text_field(special, "id");
    const json::value* all = find_field(step, "special_tokens");
    const json::value* one = all ? find_field(as_object(*all, "\"special_tokens\""), name) : nullptr;
    const json::value* ids = one ? find_field(as_object(*one, name), "ids") : nullptr;
    if (!ids) throw bad_json("template", "the template's special token \"{:.100}\" has no ids", name);
    for (const json::value& id : as_array(*ids, "\"ids\""))
      items.push_back({Kind::token, checked(id, name), type_of(special)});
  }

  static int32_t type_of(const json::object& item) {
    const json::value* type = find_field(item, "type_id");
    return type ? static_cast<int32_t>(as_count(*type, 255, "\"type_id\"")) : 0;
  }

  int32_t checked(const json::value& id, std::string_view what) const {
    return static_cast<int32_t>(as_count(id, static_cast<int64_t>(tokens_) - 1, what));
  }

  const IdByText& ids_;
  const size_t tokens_;
  Pipeline& out_;
};

// Decoders: only their sum matters, which is one of a few.
Decoding read_decoding(const json::object& file, std::string_view model) {
  using Kind = Decoding::Kind;
  Decoding decoding{.kind = model == "gpt2" ? Kind::bytes : model == "bert" ? Kind::words : Kind::pieces};
  decoding.space_marks = find_field(file, "decoder") == nullptr;
  for (const json::object* step : steps_of(file, "decoder", "decoders")) {
    const std::string_view type = text_field(*step, "type");
    if (type == "Metaspace") {
      const std::string scheme =
          optional_text(*step, "prepend_scheme")
              .value_or(bool_field(*step, "add_prefix_space", true) ? "always" : "never");
      if (scheme != "never") decoding.start = Decoding::Start::drop_all_spaces;
      decoding.space_marks = true;
    } else if (type == "Strip") {
      if (text_field(*step, "content") != " ") throw unknown("decoder", "Strip of other than a space");
      const json::value* start = find_field(*step, "start");
      if (start && as_count(*start, 1, "\"start\"") == 1) decoding.start = Decoding::Start::drop_space;
    } else if (type == "WordPiece") {
      decoding.clean_up = bool_field(*step, "cleanup", true);
    } else if (type == "Replace") {
      decoding.space_marks = true;
    } else if (type != "ByteLevel" && type != "ByteFallback" && type != "Fuse") {
      throw unknown("decoder", type);
    }
  }
  return decoding;
}

ModelOptions read_options(const json::object& model) {
  if (const auto suffix = optional_text(model, "end_of_word_suffix"); suffix && !suffix->empty())
    throw unknown("end-of-word suffix", *suffix);
  const bool word_piece = text_field(model, "type") == "WordPiece";
  if (const auto prefix = optional_text(model, "continuing_subword_prefix");
      prefix && !prefix->empty() && !word_piece)
    throw unknown("prefix of a continued word", *prefix);
  if (const json::value* dropout = find_field(model, "dropout");
      dropout && to_text(*dropout) != "0.0" && to_text(*dropout) != "0")
    throw unknown("dropout", to_text(*dropout));
  ModelOptions options{
      .byte_fallback = bool_field(model, "byte_fallback", false),
      .fuse_unknown = bool_field(model, "fuse_unk", false) || text_field(model, "type") == "Unigram",
      .ignore_merges = bool_field(model, "ignore_merges", false)};
  if (const json::value* most = find_field(model, "max_input_chars_per_word"))
    options.word_characters_max = as_count(*most, limits::kTokenTextBytes, "\"max_input_chars_per_word\"");
  return options;
}

}  // namespace

Pipeline read_pipeline(const Vocabulary& vocabulary) {
  const json::value value = parse_json(vocabulary.pipeline, limits::kTokenizerJsonValues);
  const json::object& file = as_object(value, "the tokenizer's pipeline");
  IdByText ids;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
    ids.emplace(vocabulary.tokens[id], static_cast<int32_t>(id));
  Pipeline pipeline;
  for (const json::object* step : steps_of(file, "normalizer", "normalizers"))
    pipeline.normalizers.push_back(read_normalizer(*step));
  pipeline.pre_tokenizers = read_pre_tokenizers(file);
  pipeline.added_tokens = read_added_tokens(file, ids);
  TemplateReader templates(ids, vocabulary.tokens.size(), pipeline);
  for (const json::object* step : steps_of(file, "post_processor", "processors")) templates.read(*step);
  pipeline.decoding = read_decoding(file, vocabulary.model);
  const json::value* model = find_field(file, "model");
  if (!model) throw bad_json("model_missing", "the tokenizer's pipeline must have a \"model\"");
  pipeline.model = read_options(as_object(*model, "\"model\""));
  return pipeline;
}

Pipeline make_pipeline(const Vocabulary& vocabulary) {
  return vocabulary.pipeline.empty() ? named_pipeline(vocabulary) : read_pipeline(vocabulary);
}

}  // namespace neutrino::tokenizer
