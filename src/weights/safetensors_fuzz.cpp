// Safetensors files: an Error, or tensors whose every byte may be read.
#include "base/testing/fuzz.h"
#include "weights/safetensors.h"

using namespace neutrino;

NEUTRINO_FUZZ(safetensors) {
  try {
    volatile int sum = 0;
    for (const weights::StTensor& tensor : weights::parse_safetensors(data).tensors) {
      check(tensor.bytes == (tensor.elements() * weights::st_type_bits(tensor.type) + 7) / 8,
            "a shape of another size");
      for (int64_t i = 0; i < tensor.bytes; ++i) sum = sum + std::to_integer<int>(tensor.data[i]);
    }
  } catch (const Error&) {
  }
}
