// The numbers that GGUF (ggml) gives to the types of tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "compute/dtype.h"

namespace neutrino::weights {

// nullopt: a number that neutrino does not read as weights.
std::optional<compute::DType> gguf_dtype(uint32_t number);

uint32_t gguf_dtype_number(compute::DType dtype);  // of a type of weights (not i32)

std::string gguf_dtype_text(uint32_t number);  // "q8_K (15)", "1000"
std::string gguf_dtype_names();                // of all that are read: "f32, f16, ..."

}  // namespace neutrino::weights
