// The special tokens between which some models of code fill in a middle.
#pragma once

#include <optional>

#include "chat/chat_model.h"
#include "tokenizer/tokenizer.h"
#include "weights/weight_file.h"

namespace neutrino::cli {

// From the file (tokenizer.ggml.fim_pre_token_id and friends), else by the texts that model families use. nullopt: not all three
// are there.
std::optional<chat::FillInTokens> find_fill_in_tokens(const weights::Metadata& metadata,
                                                      const tokenizer::Tokenizer& tokenizer);

}  // namespace neutrino::cli
