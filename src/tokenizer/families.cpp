// What GGUF's names of tokenizers stand for: tokenizer.ggml.model, and tokenizer.ggml.pre for byte-level BPE.
//
// A name is a fact about a family of models, so the table is taken from the families' own tokenizer.json. A name that is not
// here is refused: a guess would give wrong tokens without a sign.
#include <algorithm>

#include "base/error.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

using Step = PreTokenizer;

#define NEUTRINO_ANY_CASE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define NEUTRINO_SPACES R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define NEUTRINO_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define NEUTRINO_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define NEUTRINO_UPPER_NOT_HAN R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])"
#define NEUTRINO_LOWER_NOT_HAN R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])"

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    NEUTRINO_ANY_CASE R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" NEUTRINO_SPACES;
constexpr std::string_view kQwen2 =
    NEUTRINO_ANY_CASE R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)" NEUTRINO_SPACES;
constexpr std::string_view kQwen35 = NEUTRINO_ANY_CASE
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" NEUTRINO_SPACES;
constexpr std::string_view kBailing =
    NEUTRINO_ANY_CASE R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    NEUTRINO_ANY_CASE R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)" NEUTRINO_SPACES;
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?)" NEUTRINO_UPPER "*" NEUTRINO_LOWER "+" NEUTRINO_ANY_CASE
    "?"
    R"(|[^\r\n\p{L}\p{N}]?)" NEUTRINO_UPPER "+" NEUTRINO_LOWER "*" NEUTRINO_ANY_CASE
    "?"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" NEUTRINO_SPACES;
constexpr std::string_view kTekken = R"([^\r\n\p{L}\p{N}]?)" NEUTRINO_UPPER "*" NEUTRINO_LOWER
                                     "+"
                                     R"(|[^\r\n\p{L}\p{N}]?)" NEUTRINO_UPPER "+" NEUTRINO_LOWER
                                     "*"
                                     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" NEUTRINO_SPACES;
constexpr std::string_view kKimiK2 =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?)" NEUTRINO_UPPER_NOT_HAN "*" NEUTRINO_LOWER_NOT_HAN "+" NEUTRINO_ANY_CASE
    "?"
    R"(|[^\r\n\p{L}\p{N}]?)" NEUTRINO_UPPER_NOT_HAN "+" NEUTRINO_LOWER_NOT_HAN "*" NEUTRINO_ANY_CASE
    "?"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" NEUTRINO_SPACES;
constexpr std::string_view kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)" NEUTRINO_SPACES;
// Letters with two cases and some more, as DeepSeek's first tokenizer lists them.
constexpr std::string_view kDeepSeekLetters =
    R"(\s?)"
    "[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-"
    "\u0373\u0376"
    "\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-"
    "\u052F\u0531-"
    "\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-"
    "\u1D9A"
    "\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-"
    "\u1FB4"
    "\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-"
    "\u1FFC"
    "\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-"
    "\u213F"
    "\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-"
    "\uA69B"
    "\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A"
    "\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-"
    "\U00010CF2"
    "\U000118A0-\U000118DF\U0001E900-\U0001E943]+";
constexpr std::string_view kDeepSeekHan = R"([一-龥ࠀ-一가-퟿]+)";

Step split(std::string_view regex) { return {.kind = Step::Kind::split, .pattern = Pattern::regex(regex)}; }
Step digits() { return {.kind = Step::Kind::split, .pattern = Pattern::any_of(kDigit)}; }

std::vector<Step> gpt2() { return {split(kGpt2)}; }
std::vector<Step> smollm() { return {digits(), split(kGpt2)}; }
std::vector<Step> llama3() { return {split(kLlama3)}; }
std::vector<Step> qwen2() { return {split(kQwen2)}; }
std::vector<Step> qwen35() { return {split(kQwen35)}; }
std::vector<Step> bailing() { return {split(kBailing)}; }
std::vector<Step> seed_coder() { return {split(kSeedCoder)}; }
std::vector<Step> o200k() { return {split(kO200k)}; }
std::vector<Step> tekken() { return {split(kTekken)}; }
std::vector<Step> kimi_k2() { return {split(kKimiK2)}; }
std::vector<Step> bloom() { return {split(R"( ?[^(\s|.,!?…。，、।۔،)]+)")}; }
std::vector<Step> deepseek_v3() {
  return {split(R"(\p{N}{1,3})"), split(R"([一-龥぀-ゟ゠-ヿ]+)"), split(kDeepSeekV3)};
}
std::vector<Step> deepseek_llm() {
  return {split(R"([\r\n])"), split(kDeepSeekLetters), split(R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)"),
          split(R"(\s+$)"),   split(kDeepSeekHan),     digits()};
}
std::vector<Step> deepseek_coder() {
  return {split(R"([\r\n])"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"), split(kDeepSeekHan), digits()};
}

enum class Form { as_written, composed };  // composed: the text is brought to normal form C first
enum class Words { merged, taken_whole };  // taken_whole: a piece that is a token is not merged

struct Family {
  std::string_view name;
  std::vector<Step> (*steps)();
  Form form = Form::as_written;
  Words words = Words::merged;
};

// Of several names for the same steps the first is the one that is written.
constexpr Family kFamilies[] = {
    {"gpt-2", gpt2},
    {"mpt", gpt2},
    {"olmo", gpt2},
    {"jais", gpt2},
    {"phi-2", gpt2},
    {"exaone4", gpt2},
    {"trillion", gpt2},
    {"granite-docling", gpt2},
    {"modern-bert", gpt2, Form::composed},
    {"roberta-bpe", gpt2},
    {"smollm", smollm},
    {"starcoder", smollm},
    {"refact", smollm},
    {"command-r", smollm},
    {"codeshell", smollm},
    {"exaone", smollm},
    {"minerva-7b", smollm},
    {"llama-bpe", llama3, Form::as_written, Words::taken_whole},
    {"llama3", llama3, Form::as_written, Words::taken_whole},
    {"llama-v3", llama3, Form::as_written, Words::taken_whole},
    {"falcon3", llama3, Form::as_written, Words::taken_whole},
    {"falcon-h1", llama3, Form::as_written, Words::taken_whole},
    {"pixtral", llama3, Form::as_written, Words::taken_whole},
    {"lfm2", llama3, Form::as_written, Words::taken_whole},
    {"dbrx", llama3},
    {"smaug-bpe", llama3},
    {"glm4", llama3},
    {"chatglm-bpe", llama3},
    {"qwen2", qwen2, Form::composed},
    {"deepseek-r1-qwen", qwen2},
    {"stablelm2", qwen2, Form::composed},
    {"megrez", qwen2, Form::composed},
    {"hunyuan", qwen2},
    {"solar-open", qwen2},
    {"qwen35", qwen35, Form::composed},
    {"bailingmoe", bailing},
    {"bailingmoe2", bailing},
    {"llada-moe", bailing},
    {"seed-coder", seed_coder},
    {"gpt-4o", o200k},
    {"llama4", o200k},
    {"kanana2", o200k},
    {"minimax-m2", o200k},
    {"tekken", tekken, Form::as_written, Words::taken_whole},
    {"kimi-k2", kimi_k2},
    {"deepseek-v3", deepseek_v3},
    {"hunyuan-dense", deepseek_v3},
    {"joyai-llm", deepseek_v3},
    {"deepseek-llm", deepseek_llm},
    {"deepseek-coder", deepseek_coder},
    {"bloom", bloom},
    {"gpt3-finnish", bloom},
    {"poro-chat", bloom},
};

const Family& find_family(std::string_view name) {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.name == name) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.name);
  }
  throw make_error(ErrorCode::unimplemented, "pre-tokenizer must be one of {}; got \"{:.100}\"", known, name)
      .with_reason("pre_tokenizer_name");
}

Normalizer replace(std::string_view from, std::string_view to) {
  return {.kind = Normalizer::Kind::replace, .content = std::string(to), .pattern = Pattern::literal(from)};
}

// Every token that is not plain text is looked for in the text as it stands.
std::vector<AddedToken> special_tokens(const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id) {
    const TokenKind kind = token_kind(vocabulary, id);
    const std::string& text = vocabulary.tokens[static_cast<size_t>(id)];
    const bool special = kind == TokenKind::control || kind == TokenKind::unknown;
    if ((special || kind == TokenKind::user_defined) && !text.empty())
      tokens.push_back({.id = id, .text = text, .special = special});
  }
  return tokens;
}

// What files mean that do not say whether texts begin with BOS or end with EOS; the vocabulary's own word goes before it.
void begin_with_bos(const Vocabulary& vocabulary, Pipeline& pipeline) {
  using enum TemplateItem::Kind;
  if (vocabulary.bos) pipeline.single = {{token, *vocabulary.bos, 0}, {first, 0, 0}};
}
void end_with_eos(const Vocabulary& vocabulary, Pipeline& pipeline) {
  using enum TemplateItem::Kind;
  if (vocabulary.eos) pipeline.single = {{first, 0, 0}, {token, *vocabulary.eos, 0}};
}

void byte_level(const Vocabulary& vocabulary, Pipeline& pipeline) {
  const Family& family = find_family(vocabulary.pre);
  if (family.form == Form::composed) pipeline.normalizers.push_back({.kind = Normalizer::Kind::nfc});
  if (vocabulary.add_space_prefix.value_or(false))
    pipeline.pre_tokenizers.push_back({.kind = Step::Kind::space});
  for (Step& step : family.steps()) pipeline.pre_tokenizers.push_back(std::move(step));
  pipeline.model.ignore_merges = family.words == Words::taken_whole;
  if (family.words == Words::taken_whole) begin_with_bos(vocabulary, pipeline);
}

constexpr std::string_view kSpaceMark = "\u2581";

void sentence_piece(const Vocabulary& vocabulary, Pipeline& pipeline) {
  const bool prefix = vocabulary.add_space_prefix.value_or(true);
  if (!vocabulary.precompiled_charsmap.empty())
    pipeline.normalizers.push_back(
        {.kind = Normalizer::Kind::precompiled, .content = vocabulary.precompiled_charsmap});
  if (prefix)
    pipeline.normalizers.push_back({.kind = Normalizer::Kind::prepend, .content = std::string(kSpaceMark)});
  pipeline.normalizers.push_back(replace(" ", kSpaceMark));
  pipeline.decoding.start = prefix ? Decoding::Start::drop_space : Decoding::Start::keep;
  pipeline.decoding.kind = Decoding::Kind::pieces;
  pipeline.model.byte_fallback = pipeline.model.fuse_unknown = true;
  begin_with_bos(vocabulary, pipeline);
}

void unigram(const Vocabulary& vocabulary, Pipeline& pipeline) {
  if (!vocabulary.precompiled_charsmap.empty())
    pipeline.normalizers.push_back(
        {.kind = Normalizer::Kind::precompiled, .content = vocabulary.precompiled_charsmap});
  if (vocabulary.remove_extra_whitespaces.value_or(false)) {
    pipeline.normalizers.push_back({.kind = Normalizer::Kind::strip, .left = true, .right = true});
    pipeline.normalizers.push_back(
        {.kind = Normalizer::Kind::replace, .content = " ", .pattern = Pattern::regex(" {2,}")});
  }
  const bool prefix = vocabulary.add_space_prefix.value_or(true);
  pipeline.pre_tokenizers.push_back({.kind = Step::Kind::metaspace,
                                     .content = std::string(kSpaceMark),
                                     .prepend = prefix ? Step::Prepend::always : Step::Prepend::never});
  pipeline.decoding = {.kind = Decoding::Kind::pieces,
                       .start = prefix ? Decoding::Start::drop_space : Decoding::Start::keep};
  pipeline.model.byte_fallback = pipeline.model.fuse_unknown = true;
  end_with_eos(vocabulary, pipeline);
}

void word_piece(const Vocabulary& vocabulary, Pipeline& pipeline) {
  pipeline.normalizers.push_back(
      {.kind = Normalizer::Kind::bert, .clean_text = true, .chinese = true, .accents = true, .lower = true});
  pipeline.pre_tokenizers.push_back({.kind = Step::Kind::split,
                                     .pattern = Pattern::any_of(kWhiteSpace),
                                     .delimiters = Delimiters::removed});
  pipeline.pre_tokenizers.push_back(
      {.kind = Step::Kind::split, .pattern = Pattern::any_of(kBertPunctuation)});
  pipeline.decoding = {.kind = Decoding::Kind::words, .clean_up = true};
  if (!vocabulary.bos || !vocabulary.separator) return;
  using enum TemplateItem::Kind;
  const int32_t begin = *vocabulary.bos, end = *vocabulary.separator;
  pipeline.single = {{token, begin, 0}, {first, 0, 0}, {token, end, 0}};
  pipeline.pair = {{token, begin, 0}, {first, 0, 0}, {token, end, 0}, {second, 0, 1}, {token, end, 1}};
}

bool same(const Step& a, const Step& b) {
  return a.kind == b.kind && a.pattern.source() == b.pattern.source() && a.delimiters == b.delimiters &&
         a.inverted == b.inverted && a.content == b.content && a.prepend == b.prepend && a.split == b.split;
}

// A split that takes every character into a match can be written in two ways.
Step usual(Step step) {
  if (step.inverted && step.delimiters == Delimiters::removed)
    step.inverted = false, step.delimiters = Delimiters::isolated;
  return step;
}

}  // namespace

Pipeline named_pipeline(const Vocabulary& vocabulary) {
  Pipeline pipeline;
  pipeline.added_tokens = special_tokens(vocabulary);
  if (vocabulary.model == "gpt2") byte_level(vocabulary, pipeline);
  if (vocabulary.model == "llama" || vocabulary.model == "gemma4") sentence_piece(vocabulary, pipeline);
  if (vocabulary.model == "t5") unigram(vocabulary, pipeline);
  if (vocabulary.model == "bert") word_piece(vocabulary, pipeline);
  return pipeline;
}

std::string pre_tokenizer_name(const Pipeline& pipeline) {
  const bool composed = std::ranges::any_of(
      pipeline.normalizers, [](const Normalizer& step) { return step.kind == Normalizer::Kind::nfc; });
  std::vector<Step> steps;
  for (const Step& step : pipeline.pre_tokenizers)
    if (step.kind != Step::Kind::space) steps.push_back(usual(step));
  std::string_view best;
  int best_agreement = -1;
  for (const Family& family : kFamilies) {
    if (!std::ranges::equal(family.steps(), steps, same)) continue;
    const int agreement = ((family.form == Form::composed) == composed) +
                          2 * ((family.words == Words::taken_whole) == pipeline.model.ignore_merges);
    if (agreement > best_agreement) best = family.name, best_agreement = agreement;
  }
  return std::string(best);
}

}  // namespace neutrino::tokenizer
