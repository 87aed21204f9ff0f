// Changes fields of an adapter that a fuzzer found: a PEFT folder as one text (adapter_config.json, a zero byte,
// adapter_model.safetensors) or a GGUF file.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "weights/safetensors.h"
#include "weights/testing/checkpoint_mutator.h"
#include "weights/testing/gguf_image_reader.h"
#include "weights/testing/gguf_mutator.h"

namespace neutrino::weights::testing {

// adapter_config.json and adapter_model.safetensors.
inline std::pair<std::string_view, std::string_view> split_peft(std::string_view input) {
  const size_t zero = std::min(input.find('\0'), input.size());
  return {input.substr(0, zero), input.substr(std::min(zero + 1, input.size()))};
}

// nullopt: parse_safetensors() refuses the file, so its structure means nothing.
inline std::optional<StImage> read_safetensors_image(std::string_view bytes) {
  try {
    StImage image{.tensors = {}, .metadata = {}, .header_length = {}, .header = {}, .tail = {}};
    for (const StTensor& tensor : parse_safetensors(std::as_bytes(std::span(bytes))).tensors)
      image.tensors.push_back(
          {.name = tensor.name,
           .dtype = std::string(st_type_name(tensor.type)),
           .shape = tensor.shape,
           .data = {reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes)}});
    return image;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// nullopt: what is there has no structure to change.
inline std::optional<std::string> mutate_peft(std::string_view input, Random& random) {
  const auto [config, tensors] = split_peft(input);
  if (random.chance(0.5)) {
    try {
      json::value value = parse_json(config);
      JsonMutator(random).change(value);
      return to_text(value) + '\0' + std::string(tensors);
    } catch (const Error&) {
      return std::nullopt;
    }
  }
  std::optional<StImage> image = read_safetensors_image(tensors);
  if (!image || image->tensors.empty()) return std::nullopt;
  return std::string(config) + '\0' + SafetensorsMutator(random).mutate(std::move(*image));
}

inline std::optional<std::string> mutate_adapter(bool is_gguf, std::string_view input, uint64_t seed) {
  Random random(seed);
  if (!is_gguf) return mutate_peft(input, random);
  const auto image = read_image(std::as_bytes(std::span(input)));
  return image ? std::optional(GgufMutator(seed).mutate(*image)) : std::nullopt;
}

}  // namespace neutrino::weights::testing
