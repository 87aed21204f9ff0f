// GGUF files: whatever the bytes are, the answer is an Error or a file all of which can be read. Half of the mutations change
// fields of the structure, the other half bytes.
#include <algorithm>
#include <cstring>

#include "base/testing/fuzz.h"
#include "tokenizer/tokenizer.h"
#include "weights/testing/gguf_image_reader.h"
#include "weights/testing/gguf_mutator.h"

using namespace neutrino;
using namespace neutrino::weights;

NEUTRINO_FUZZ(gguf) {
  try {
    const auto file = parse_gguf("fuzz.gguf", data);
    weights::testing::read_everything(*file);
    tokenizer::make_tokenizer(file->vocabulary())->encode("hello, the world", tokenizer::Special::parse);
  } catch (const Error&) {
  }
}

#if defined(NEUTRINO_LIBFUZZER)
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  const auto image =
      seed % 2 ? weights::testing::read_image(std::as_bytes(std::span(data, size))) : std::nullopt;
  if (!image) return LLVMFuzzerMutate(data, size, size_max);
  const std::string mutated = weights::testing::GgufMutator(seed).mutate(*image);
  const size_t taken = std::min(mutated.size(), size_max);
  std::memcpy(data, mutated.data(), taken);
  return taken;
}
#endif
