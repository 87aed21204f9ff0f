// gguf_seeds FOLDER [N]: the corpus that the fuzzer starts from, the small good models and N files mutated from them.
#include <charconv>
#include <cstdio>
#include <string_view>

#include "weights/testing/gguf_mutator.h"

int main(int argc, char** argv) {
  using namespace neutrino;
  int64_t mutated = 200;
  if (argc < 2) return std::fputs("usage: gguf_seeds FOLDER [N]\n", stderr), 2;
  if (const std::string_view text = argc > 2 ? argv[2] : ""; !text.empty())
    std::from_chars(text.begin(), text.end(), mutated);
  const auto seeds = weights::testing::hostile_seeds();
  weights::testing::GgufMutator mutator(1);
  for (size_t i = 0; i < seeds.size(); ++i)
    write_file_atomic(fmt::format("{}/good-{}", argv[1], i), serialise(seeds[i]));
  for (int64_t i = 0; i < mutated; ++i)
    write_file_atomic(fmt::format("{}/mutated-{}", argv[1], i),
                      mutator.mutate(seeds[static_cast<size_t>(i) % seeds.size()]));
  return 0;
}
