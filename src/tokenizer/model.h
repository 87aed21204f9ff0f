// The model of a tokenizer: how one piece of text becomes tokens. Each algorithm is one file and one line in kAlgorithms
// (tokenizer.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

class Model {
 public:
  virtual ~Model() = default;

  // Appends the tokens of a piece that is not empty. Throws Error{invalid_argument, reason "unencodable_text"} for a character
  // that has neither tokens nor an unknown token to stand for it.
  virtual void encode(std::string_view piece, std::vector<int32_t>& out) const = 0;

  // The token that is exactly this text (in the form that pieces have), or -1.
  virtual int32_t find(std::string_view piece) const = 0;
};

// The vocabulary must outlive the model and have passed check_vocabulary(). Throw Error{invalid_argument}.
std::unique_ptr<Model> make_byte_pair_model(const Vocabulary& vocabulary, const ModelOptions& options);
std::unique_ptr<Model> make_unigram_model(const Vocabulary& vocabulary, const ModelOptions& options);
std::unique_ptr<Model> make_word_piece_model(const Vocabulary& vocabulary, const ModelOptions& options);

Error unencodable(std::string_view character);

}  // namespace neutrino::tokenizer
