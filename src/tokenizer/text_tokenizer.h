// The one tokenizer: a pipeline around a model.
#pragma once

#include <memory>

#include "tokenizer/model.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

using ModelMaker = std::unique_ptr<Model> (*)(const Vocabulary& vocabulary, const ModelOptions& options);

// For a vocabulary that check_vocabulary() let pass. Throws Error.
std::unique_ptr<Tokenizer> make_text_tokenizer(Vocabulary vocabulary, ModelMaker make_model);

}  // namespace neutrino::tokenizer
