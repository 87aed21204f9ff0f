#include "text/constraints.h"

#include <neutrino_text/src/lib.rs.h>
#include <rust/cxx.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/limits.h"
#include "text/token_source.h"

namespace neutrino::text {
namespace {

class Encoder final : public TokenSource {
 public:
  explicit Encoder(std::function<std::vector<int32_t>(std::string_view)> encode)
      : encode_(std::move(encode)) {}
  void tokenize(rust::Slice<const uint8_t> text, rust::Vec<uint32_t>& tokens) const override {
    const std::string_view view(reinterpret_cast<const char*>(text.data()), text.size());
    for (const int32_t token : encode_(view)) tokens.push_back(static_cast<uint32_t>(token));
  }

 private:
  std::function<std::vector<int32_t>(std::string_view)> encode_;
};

bridge::GrammarLimits grammar_limits() {
  bridge::GrammarLimits limits{};
  limits.source_bytes = limits::kGrammarSourceBytes;
  limits.depth = limits::kGrammarDepth;
  limits.schema_nodes = limits::kGrammarSchemaNodes;
  limits.symbols = limits::kGrammarSymbols;
  limits.compile_fuel = limits::kGrammarCompileFuel;
  limits.mask_fuel = limits::kGrammarMaskFuel;
  limits.mask_items = limits::kGrammarMaskItems;
  limits.row_items = limits::kGrammarRowItems;
  limits.lexer_states = limits::kGrammarLexerStates;
  limits.shared_work = limits::kGrammarSharedWork;
  limits.stack_bytes = limits::kGrammarStackBytes;
  return limits;
}

bridge::GrammarKind bridge_kind(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::json_schema: return bridge::GrammarKind::JsonSchema;
    case GrammarKind::json_object: return bridge::GrammarKind::JsonObject;
    case GrammarKind::regex: return bridge::GrammarKind::Regex;
    case GrammarKind::choice: return bridge::GrammarKind::Choice;
    case GrammarKind::lark: return bridge::GrammarKind::Lark;
    case GrammarKind::gbnf: return bridge::GrammarKind::Gbnf;
    case GrammarKind::structural_tag: return bridge::GrammarKind::StructuralTag;
  }
  check(false, "a grammar of unknown kind");
  return {};
}

void check_tokens(const VocabularyTokens& tokens) {
  const auto size = std::ssize(tokens.bytes);
  if (size == 0 || tokens.special.size() != tokens.bytes.size())
    throw make_error(ErrorCode::invalid_argument,
                     "a grammar's vocabulary needs bytes and kind of each token, got {} and {}", size,
                     tokens.special.size());
  for (const int32_t token : tokens.end_tokens)
    if (token < 0 || token >= size)
      throw make_error(ErrorCode::invalid_argument, "end token ids must be 0 to {}, got {}", size - 1, token);
}

// The bridge's errors are "reason \x1f path \x1f message".
Error grammar_error(std::string_view text, const GrammarSpec& spec) {
  const size_t first = text.find('\x1f'), second = text.find('\x1f', first + 1);
  if (first == text.npos || second == text.npos)
    return Error(ErrorCode::invalid_argument, std::string(text))
        .with_reason("invalid_grammar")
        .with_param(spec.param);
  const std::string path = spec.param + std::string(text.substr(first + 1, second - first - 1));
  return Error(ErrorCode::invalid_argument, std::string(text.substr(second + 1)))
      .with_reason(std::string(text.substr(0, first)))
      .with_param(path.starts_with('.') ? path.substr(1) : path);
}

}  // namespace

// ---- vocabulary

struct GrammarVocabulary::Compiled {
  rust::Box<bridge::Vocabulary> rust;
};

GrammarVocabulary::GrammarVocabulary(VocabularyTokens tokens) : size_(std::ssize(tokens.bytes)) {
  check_tokens(tokens);
  std::string bytes;
  std::vector<uint32_t> lengths, ends(tokens.end_tokens.begin(), tokens.end_tokens.end());
  for (size_t i = 0; i < tokens.bytes.size(); ++i) {
    bytes += tokens.bytes[i];
    lengths.push_back(static_cast<uint32_t>(tokens.bytes[i].size()));
  }
  const std::vector<uint8_t> special(tokens.special.begin(), tokens.special.end());
  std::unique_ptr<TokenSource> source;
  if (tokens.encode) source = std::make_unique<Encoder>(std::move(tokens.encode));
  try {
    compiled_ = std::make_unique<Compiled>(Compiled{bridge::make_vocabulary(
        {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, {lengths.data(), lengths.size()},
        {special.data(), special.size()}, {ends.data(), ends.size()}, std::move(source), grammar_limits())});
  } catch (const rust::Error& error) {
    throw make_error(ErrorCode::invalid_argument, "the vocabulary cannot be used for grammars: {}",
                     error.what());
  }
}

GrammarVocabulary::~GrammarVocabulary() = default;

bool GrammarVocabulary::forces_tokens() const { return bridge::forces_tokens(*compiled_->rust); }

// ---- grammar

struct Grammar::Compiled {
  rust::Box<bridge::Grammar> rust;
};

Grammar::Grammar(const GrammarVocabulary& vocabulary, const GrammarSpec& spec)
    : mask_words_(vocabulary.mask_words()) {
  std::optional<rust::Str> text;
  try {
    text.emplace(spec.text.data(), spec.text.size());
  } catch (const std::exception&) {
    throw grammar_error("invalid_grammar\x1f\x1fthe grammar is not valid UTF-8", spec);
  }
  try {
    compiled_ = std::make_unique<Compiled>(
        Compiled{bridge::compile_grammar(*vocabulary.compiled_->rust, bridge_kind(spec.kind), *text)});
  } catch (const rust::Error& error) {
    throw grammar_error(error.what(), spec);
  }
}

Grammar::~Grammar() = default;

// ---- matcher

struct GrammarMatcher::State {
  rust::Box<bridge::Matcher> rust;
};

GrammarMatcher::GrammarMatcher(const Grammar& grammar)
    : state_(std::make_unique<State>(State{bridge::start_matcher(*grammar.compiled_->rust)})) {}
GrammarMatcher::GrammarMatcher(GrammarMatcher&&) noexcept = default;
GrammarMatcher::~GrammarMatcher() = default;

bool GrammarMatcher::fill_mask(std::span<uint64_t> mask) {
  return bridge::fill_mask(*state_->rust, {mask.data(), mask.size()});
}

bool GrammarMatcher::consume(int32_t token) {
  return bridge::consume(*state_->rust, static_cast<uint32_t>(token));
}

int64_t GrammarMatcher::count_allowed(std::span<const int32_t> tokens) {
  return static_cast<int64_t>(bridge::count_allowed(*state_->rust, {tokens.data(), tokens.size()}));
}

int64_t GrammarMatcher::take_forced(std::span<int32_t> tokens) {
  return static_cast<int64_t>(bridge::take_forced(*state_->rust, {tokens.data(), tokens.size()}));
}

bool GrammarMatcher::rollback(int64_t tokens) {
  return tokens >= 0 && bridge::rollback(*state_->rust, static_cast<size_t>(tokens));
}

bool GrammarMatcher::is_accepting() { return bridge::is_accepting(*state_->rust); }
bool GrammarMatcher::is_complete() const { return bridge::is_complete(*state_->rust); }
bool GrammarMatcher::failed() const { return bridge::has_failed(*state_->rust); }
std::string GrammarMatcher::error() const { return std::string(bridge::failure(*state_->rust)); }

}  // namespace neutrino::text
