// Text to token ids and back. The front door of this folder.
//
// A Vocabulary is what a model file says about its tokens, as plain data; make_tokenizer() checks it and builds the
// algorithm that it names. Tokenizers are immutable and used from many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace neutrino::tokenizer {

// GGUF's tokenizer.ggml.token_type.
enum class TokenKind : uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

// Fields are GGUF's keys tokenizer.ggml.*, whichever file they come from, so that a GGUF file can be written from one.
struct Vocabulary {
  std::string model;  // "gpt2": byte-level BPE; "llama": SentencePiece BPE; "t5": Unigram; "bert": WordPiece
  std::string pre;    // name of the pre-tokenizer: "smollm", "gpt-2", ...; empty: it has no name
  std::vector<std::string>
      tokens;  // as stored: byte-level BPE texts use GPT-2's byte-to-character map, BERT's words
               // begin with U+2581 and what continues a word stands bare
  std::vector<TokenKind> kinds;     // one per token, or empty: all normal
  std::vector<std::string> merges;  // "left right", best first
  std::vector<double> scores;       // one per token, or empty; GGUF: float, and neutrino.tokenizer.scores
  std::optional<int32_t> bos, eos, unknown, padding, eot, separator, mask;
  std::vector<int32_t> stops;  // further tokens that end a generation (generation_config.json)
  std::optional<bool> add_bos, add_eos;
  std::optional<bool> add_space_prefix, remove_extra_whitespaces;
  std::string precompiled_charsmap;  // SentencePiece's normalisation rules as bytes
  // The JSON of a tokenizer.json without its vocabulary: {"model": its options, "normalizer", "pre_tokenizer",
  // "post_processor", "decoder", "added_tokens"}. Where it is there it says exactly how text becomes tokens; empty: what
  // `model` and `pre` are known for. GGUF: neutrino.tokenizer.pipeline, which other programs pass over.
  std::string pipeline;

  bool operator==(const Vocabulary&) const = default;
};

// Are "<|im_start|>" and friends in the text tokens, or plain characters? Control tokens only: tokens that a model's authors added
// as plain text ("\n\n", "<tool_call>") are found either way, as everywhere.
enum class Special { parse, as_text };

// What stands around the tokens of a text, for models that read whole texts: "[CLS] text [SEP]".
struct TemplateItem {
  enum class Kind { token, first, second };  // a special token, or one of the texts
  Kind kind;
  int32_t id = 0;    // of the token
  int32_t type = 0;  // its segment (token type)
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends nothing but what the text holds: no BOS, no EOS. Bytes that are not UTF-8 become byte tokens, or else the unknown
  // token; they are never dropped. Throws Error{invalid_argument} where there is neither.
  virtual std::vector<int32_t> encode(std::string_view text, Special special) const = 0;

  // The bytes that a token stands for (control tokens: their text). Views live as long as the tokenizer. id in [0, size).
  virtual std::string_view bytes(int32_t id) const = 0;
  // The same at the beginning of a text, where some tokenizers leave out a space.
  virtual std::string_view bytes_at_start(int32_t id) const { return bytes(id); }

  virtual int32_t size() const = 0;
  virtual TokenKind kind(int32_t id) const = 0;
  virtual std::optional<int32_t> find(
      std::string_view text) const = 0;  // the id of a special or whole token's bytes

  bool is_special(int32_t id) const {
    return kind(id) == TokenKind::control || kind(id) == TokenKind::unknown;
  }
  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  // End of generation: eos, eot, and the control tokens known as turn ends ("<|im_end|>", "<|eot_id|>", ...); sorted.
  std::span<const int32_t> stop_tokens() const { return stop_tokens_; }
  bool is_stop(int32_t id) const;
  // What encode_document() and encode_pair() put around the texts; empty: nothing.
  std::span<const TemplateItem> single_template() const { return single_template_; }
  std::span<const TemplateItem> pair_template() const { return pair_template_; }

 protected:
  std::optional<int32_t> bos_, eos_;
  bool add_bos_ = false, add_eos_ = false;
  std::vector<TemplateItem> single_template_, pair_template_;
  std::vector<int32_t> stop_tokens_;
};

// Throws Error{invalid_argument} for a vocabulary that contradicts itself, Error{unimplemented} for a model or
// pre-tokenizer that is not known (never a guess).
std::unique_ptr<Tokenizer> make_tokenizer(Vocabulary vocabulary);

// The prompt form of a text: in front of it what the model wants there (BOS, or "[gMASK]<sop>"), unless it already begins with
// that. Nothing goes behind it.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text, Special special);

// A whole text for an encoder: with everything that its model wants around it ("[CLS] text [SEP]").
std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view text, Special special);

// Two texts for a model that compares them, and for each token its segment: "[CLS] first [SEP] second [SEP]".
// Throws Error{unimplemented} where the tokenizer has no form for two texts.
struct TextPair {
  std::vector<int32_t> ids, types;
};
TextPair encode_pair(const Tokenizer& tokenizer, std::string_view first, std::string_view second,
                     Special special);

// All tokens' bytes in a row, invalid UTF-8 replaced by U+FFFD (WHATWG: one per maximal subpart); special tokens as
// text or skipped. A space that the tokenizer puts before every text is left out again.
std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special);

}  // namespace neutrino::tokenizer
