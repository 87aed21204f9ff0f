// What happens to a text before it is cut into pieces.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/pipeline.h"

namespace neutrino::tokenizer {

// Applies the steps in order. Bytes that are not UTF-8 stay as they are.
void normalize(const std::vector<Normalizer>& steps, std::string& text);

// Throws Error{invalid_argument} for a step that no text could go through.
void check_normalizers(const std::vector<Normalizer>& steps);

}  // namespace neutrino::tokenizer
