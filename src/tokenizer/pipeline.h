// The steps between a text and its tokens, as plain data: what happens before and after the model (BPE, Unigram, WordPiece).
//
//   text -> added tokens are cut out -> normalisers -> pre-tokenizers cut pieces -> the model, piece by piece -> template
//
// The names and the meaning are those of Hugging Face's tokenizers, as its tokenizer.json writes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/pattern.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

struct Normalizer {
  enum class Kind {
    nfc,
    nfd,
    nfkc,
    nfkd,
    lowercase,
    strip_accents,
    strip,        // white space at the `left` and the `right` end
    replace,      // every match of `pattern` by `content`
    prepend,      // `content` before a text that is not empty
    bert,         // clean_text, chinese, accents (drops them), lower
    precompiled,  // `content`: SentencePiece's charsmap
    nmt
  };
  Kind kind;
  std::string content = {};
  Pattern pattern = {};
  bool left = false, right = false;
  bool clean_text = false, chinese = false, accents = false, lower = false;
};

// What becomes of the matches of a split.
enum class Delimiters { isolated, removed, merged_with_previous, merged_with_next, contiguous };

struct PreTokenizer {
  enum class Kind {
    split,      // at the matches of `pattern`; inverted: what is not a match counts as one
    space,      // a space in front of a piece that does not begin with one
    metaspace,  // spaces become `content`, one goes in front (`prepend`), pieces begin at each (`split`)
  };
  enum class Prepend { never, first, always };  // first: only at the beginning of the whole text
  Kind kind;
  Pattern pattern = {};
  Delimiters delimiters = Delimiters::isolated;
  bool inverted = false;
  std::string content = {};
  Prepend prepend = Prepend::never;
  bool split = true;
};

struct AddedToken {
  int32_t id;
  std::string text;
  bool special;      // not looked for where specials are plain text
  bool left_strip;   // takes the white space before it along
  bool right_strip;  // and behind it
  bool single_word;  // only where no word character stands next to it
  bool normalized;   // looked for in the normalised text, in its own normalised form
};

// How tokens become text.
struct Decoding {
  enum class Kind {
    bytes,   // tokens are bytes
    pieces,  // text, and <0xHH> is a byte
    words    // WordPiece: a word begins with a space, unless it continues one
  };
  enum class Start { keep, drop_space, drop_all_spaces };
  Kind kind = Kind::bytes;
  Start start = Start::keep;  // what happens to spaces at the beginning of the whole text
  bool space_marks = true;    // of pieces: U+2581 is a space
  bool clean_up = false;      // of words: no space before punctuation
};

// Options of the models.
struct ModelOptions {
  bool byte_fallback = false;         // a character without a token becomes its bytes' tokens
  bool fuse_unknown = false;          // unknown characters in a row are one unknown token
  bool ignore_merges = false;         // a piece that is a token is that token, mergeable or not
  int64_t word_characters_max = 100;  // WordPiece: a longer word is unknown
};

struct Pipeline {
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  std::vector<AddedToken> added_tokens;
  std::vector<TemplateItem> single, pair;
  Decoding decoding;
  ModelOptions model;
};

// From Vocabulary::pipeline, or else what its model and pre-tokenizer are known for. Throws Error{invalid_argument} or
// Error{unimplemented}.
Pipeline make_pipeline(const Vocabulary& vocabulary);

// The two ways, and the name (of GGUF's tokenizer.ggml.pre) that stands for the same cutting into pieces; empty: none does.
Pipeline read_pipeline(const Vocabulary& vocabulary);
Pipeline named_pipeline(const Vocabulary& vocabulary);
std::string pre_tokenizer_name(const Pipeline& pipeline);

}  // namespace neutrino::tokenizer
