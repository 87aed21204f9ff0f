// Fuzz targets. A file NAME_fuzz.cpp holds one:
//
//   NEUTRINO_FUZZ(safetensors) {   // `data`: the input, std::span<const std::byte>
//     try { parse_safetensors(data); } catch (const Error&) {}
//   }
//
// An Error is a good end, a check() that fails, any other exception, a report of a sanitizer or more
// than five seconds of the processor are not.
// `./dev fuzz NAME SECONDS` builds it with clang's libFuzzer; everywhere else it is a test of its folder's test program that
// replays the committed corpus, tests/fuzz/NAME.corpus (tools/fuzz.py packs it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace neutrino {

using FuzzFunction = void (*)(std::span<const std::byte> data);

inline std::string_view as_text(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// The first byte of the input, for choices; 0 and nothing taken of an empty one.
inline unsigned take_byte(std::span<const std::byte>& data) {
  if (data.empty()) return 0;
  const auto byte = std::to_integer<unsigned>(data.front());
  data = data.subspan(1);
  return byte;
}

// Runs `target` on every input of a packed corpus: each is its size in decimal, a line feed, its bytes, a line feed. Every
// input stands in an allocation of its own size, so that AddressSanitizer sees the first byte read behind it. Returns the
// number of inputs.
inline int64_t replay_corpus(std::string_view packed, FuzzFunction target) {
  int64_t inputs = 0;
  while (!packed.empty()) {
    size_t size = 0, digits = 0;
    for (; digits < packed.size() && packed[digits] != '\n'; ++digits)
      size = size * 10 + static_cast<size_t>(packed[digits] - '0');
    check(packed.size() >= digits + 1 && packed.size() - digits - 1 > size, "a corpus that was cut");
    const std::unique_ptr<std::byte[]> input(new std::byte[size]);
    std::memcpy(input.get(), packed.data() + digits + 1, size);
    target({input.get(), size});
    packed.remove_prefix(digits + size + 2);
    ++inputs;
  }
  return inputs;
}

}  // namespace neutrino

#if defined(NEUTRINO_LIBFUZZER)
#include <ctime>

namespace neutrino {

// The processor's time, which other work on the machine does not lengthen.
inline void run_in_time(FuzzFunction target, std::span<const std::byte> data) {
  constexpr double kSecondsMax = 5;  // under the sanitizers
  const auto seconds = [] {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
  };
  const double begin = seconds();
  target(data);
  check(seconds() - begin < kSecondsMax, "an input takes more than 5 s of processor time");
}

}  // namespace neutrino

#define NEUTRINO_FUZZ(name)                                                    \
  static void fuzz_##name(std::span<const std::byte> data);                    \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {   \
    neutrino::run_in_time(fuzz_##name, std::as_bytes(std::span(bytes, size))); \
    return 0;                                                                  \
  }                                                                            \
  static void fuzz_##name(std::span<const std::byte> data)
#else
#include <gtest/gtest.h>

#include "base/file.h"
#define NEUTRINO_FUZZ(name)                                                                \
  static void fuzz_##name(std::span<const std::byte> data);                                \
  TEST(FuzzCorpus, name) {                                                                 \
    const std::string corpus =                                                             \
        neutrino::read_file(NEUTRINO_SOURCE_DIR "/tests/fuzz/" #name ".corpus", 64 << 20); \
    EXPECT_GT(neutrino::replay_corpus(corpus, fuzz_##name), 5);                            \
  }                                                                                        \
  static void fuzz_##name(std::span<const std::byte> data)
#endif
