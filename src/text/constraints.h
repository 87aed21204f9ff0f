// Constraints on what a model writes: a JSON schema, a regular expression, a list of choices, a grammar.
//
// A GrammarVocabulary is what the engine behind it (the Rust crate llguidance) needs to know of a model's tokens, made once.
// A Grammar is a compiled constraint, immutable and shared. A GrammarMatcher is the state of one generation: which tokens may
// come next, as a mask, and which must, as forced tokens. It works on bytes: any tokens whose bytes the grammar allows are
// allowed, except where one text alone can follow; there the tokens are those that the tokenizer makes of that text.
//
// JSON: properties come in the order of the schema, then additional ones; white space between the parts is at most one space,
// or one line break and its indentation. A keyword that cannot be honoured exactly is an error that names it, never dropped.
// What a client sends is treated as hostile: size, depth, states and the work of a mask are limited (limits::kGrammar...).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::text {

enum class GrammarKind : uint8_t {
  json_schema,    // `text`: a JSON schema
  json_object,    // any JSON object; `text` is not read
  regex,          // the whole answer matches it; Rust's syntax, \d and \w in ASCII
  choice,         // a JSON array of strings, one of which is the answer
  lark,           // llguidance's variant of Lark; %json {...} embeds a JSON schema
  gbnf,           // llama.cpp's grammar format
  structural_tag  // JSON: free text with tags whose contents follow schemas
};

struct GrammarSpec {
  GrammarKind kind = GrammarKind::json_object;
  std::string text = {};
  std::string param = {};  // where `text` stood in a request; errors name paths below it

  // `param` does not change what is compiled.
  bool same_grammar(const GrammarSpec& other) const { return kind == other.kind && text == other.text; }
};

// What a tokenizer knows, as plain data.
struct VocabularyTokens {
  std::vector<std::string> bytes = {};  // of each id; empty: a grammar never allows it
  std::vector<bool> special = {};  // control tokens: `bytes` is the name, "<|im_end|>", in Lark <|im_end|>
  std::vector<int32_t> end_tokens =
      {};  // allowed where a grammar may end; the first is the one that is forced
  // Plain text to tokens, on any thread. Absent: nothing is forced, and masks allow any tokens.
  std::function<std::vector<int32_t>(std::string_view)> encode = {};
};

// Immutable; any thread.
class GrammarVocabulary {
 public:
  // Throws Error{invalid_argument} for ids out of range. Takes tens of milliseconds for a large vocabulary.
  explicit GrammarVocabulary(VocabularyTokens tokens);
  ~GrammarVocabulary();

  int64_t size() const { return size_; }
  int64_t mask_words() const { return (size_ + 63) / 64; }  // of 64 bits
  bool forces_tokens() const;  // false: the tokenizer does not give a text's own tokens, so nothing is forced

 private:
  friend class Grammar;
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
  int64_t size_ = 0;
};

// Immutable; any thread.
class Grammar {
 public:
  // The vocabulary is not needed afterwards. May take milliseconds; its stack is its own. Throws Error{invalid_argument} with
  // reason "unsupported_schema_keyword", "invalid_json_schema" or "invalid_grammar"; param is the JSON path below spec.param.
  Grammar(const GrammarVocabulary& vocabulary, const GrammarSpec& spec);
  ~Grammar();

  int64_t mask_words() const { return mask_words_; }

 private:
  friend class GrammarMatcher;
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
  int64_t mask_words_ = 0;
};

// One generation's state; one thread at a time. A failed matcher stays so: error() says why.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(const Grammar& grammar);  // the grammar is not needed afterwards
  GrammarMatcher(GrammarMatcher&&) noexcept;
  ~GrammarMatcher();

  // Bit t of word t / 64: token t may come next. `mask` has at least mask_words() words; what is beyond is cleared. False:
  // failed, or nothing may come (`mask` is all zero).
  bool fill_mask(std::span<uint64_t> mask);
  // The token that came. False: failed; it was not allowed.
  bool consume(int32_t token);
  // How many of these could come next, one after the other. Nothing is consumed. End tokens count only as a grammar's own.
  int64_t count_allowed(std::span<const int32_t> tokens);
  // The tokens that alone can come next, as far as they fit; they count as consumed. The last of them may be an end token.
  int64_t take_forced(std::span<int32_t> tokens);
  bool rollback(int64_t tokens);  // as if the last so many had not been consumed; false: failed
  bool is_accepting();            // the answer may end here
  bool is_complete() const;       // and must: nothing but an end token can come
  bool failed() const;
  std::string error() const;  // of a failed one; else empty

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace neutrino::text
