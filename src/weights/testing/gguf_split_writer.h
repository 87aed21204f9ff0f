// Split GGUF sets for tests.
#pragma once

#include <string>
#include <vector>

#include "weights/testing/gguf_writer.h"

namespace neutrino::weights::testing {

inline std::string part_name(size_t index, size_t count) {
  return fmt::format("m-{:05}-of-{:05}.gguf", index + 1, count);
}

// The image's tensors dealt out to `count` parts of about the same number; the first `empty` hold none. The keys go to the
// first part.
inline std::vector<GgufImage> split(const GgufImage& image, size_t count, size_t empty = 0) {
  std::vector<GgufImage> parts(count);
  parts[0].metadata = image.metadata;
  const size_t with_tensors = count - empty;
  for (size_t i = 0; i < image.tensors.size(); ++i)
    parts[empty + i * with_tensors / image.tensors.size()].tensors.push_back(image.tensors[i]);
  for (size_t i = 0; i < count; ++i) {
    parts[i].alignment = image.alignment;
    if (i > 0) parts[i].set(u32_value("general.alignment", static_cast<uint32_t>(image.alignment)));
    parts[i].set(number_value("split.no", GgufType::u16, static_cast<uint16_t>(i)));
    parts[i].set(number_value("split.count", GgufType::u16, static_cast<uint16_t>(count)));
    parts[i].set(
        number_value("split.tensors.count", GgufType::i32, static_cast<int32_t>(image.tensors.size())));
    layout(parts[i]);
  }
  return parts;
}

}  // namespace neutrino::weights::testing
