// Changing the types of a model's tensors: which type each gets, and its bytes.
//
// A file's --type names a mix rather than a type: the tensors that an error hurts most (the output matrix, values, half of the
// ffn_down) get more bits, and what is small stays float32: norms, biases, routers, convolutions. The mixes are those of
// llama-quantize, so that a file is as large as people expect of its name.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compute/cpu/thread_team.h"
#include "compute/dtype.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

struct QuantMix {
  std::string_view name;  // "q4_k_m": --type
  compute::DType base;    // of most matrices
  uint32_t file_type;     // GGUF's general.file_type
};
std::span<const QuantMix> quant_mixes();

// Throws Error{invalid_argument} that lists the names.
const QuantMix& quant_mix_named(std::string_view name);

// The type of each tensor of a model in this mix, in the order of `tensors`, which must be all of the model's. Tensors whose rows
// are no whole quant blocks of the type that they should get, get one of smaller blocks or f16.
std::vector<compute::DType> quant_plan(std::span<const TensorEntry> tensors, const QuantMix& mix);

// Gives the bytes of `tensor`, one of file.tensors(), as `target` to `sink`, in pieces of whole rows. A tensor that is of that
// type already is copied. Of a stack of matrices one is in memory at a time. The threads of `team` share the rows; the bytes do not depend on their number. Throws Error{invalid_argument} naming the
// tensor, row and value that the type cannot hold: a NaN, an infinity, a magnitude beyond it.
void quantize_tensor(const WeightFile& file, const TensorEntry& tensor, compute::DType target,
                     compute::cpu::ThreadTeam& team,
                     const std::function<void(std::span<const std::byte>)>& sink);

}  // namespace neutrino::weights
