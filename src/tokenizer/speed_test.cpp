// How long tokenizers take: linear time whatever the text, and megabytes of English in a second.
#include <gtest/gtest.h>
#include <malloc.h>

#include <ctime>
#include <functional>

#include "base/fault.h"
#include "tokenizer/family_golden.h"

namespace neutrino::tokenizer {
namespace {

constexpr double kGrowth = 3.2;  // what t(2k)/t(k) must stay below; quadratic time is 4

double cpu_milliseconds(const std::function<void()>& work) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
  };
  const double start = now();
  work();
  return now() - start;
}

std::string repeat(std::string_view unit, size_t size) {
  std::string text;
  while (text.size() < size) text += unit;
  return text.substr(0, size / unit.size() * unit.size());
}

bool long_tests() { return std::getenv("NEUTRINO_TEST_LONG") != nullptr; }

// One family of each kind of model and of cutting; with long tests all of them.
std::vector<std::string> families() {
  if (long_tests()) return family_names();
  return {"qwen2", "gpt-4o", "deepseek-llm", "llama-2", "xlm-roberta", "t5", "bert-uncased"};
}

class Speed : public testing::TestWithParam<std::string> {
 protected:
  // Freed memory stays with the process: else the larger text, and only it, pays for pages that the system takes back and
  // gives again at every call, which is the allocator's growth and not the tokenizer's.
  static void SetUpTestSuite() {
    ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
    ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  }

  std::unique_ptr<Tokenizer> tokenizer_ =
      make_tokenizer(family_vocabulary(read_tokenizer_golden("families/" + GetParam() + ".json")));

  // Thread time, the best of alternating rounds: a slow moment of the machine hits both, and hardly all rounds. Where the
  // growth looks too large, more rounds show whether the text or the machine is to blame.
  double growth(const std::string& half, const std::string& whole) const {
    double best_half = 1e9, best_whole = 1e9;
    for (int round = 0; round < (long_tests() ? 7 : 3) || (round < 30 && best_whole >= kGrowth * best_half);
         ++round) {
      best_half = std::min(best_half, cpu_milliseconds([&] { tokenizer_->encode(half, Special::parse); }));
      best_whole = std::min(best_whole, cpu_milliseconds([&] { tokenizer_->encode(whole, Special::parse); }));
    }
    return best_whole / best_half;
  }
};

INSTANTIATE_TEST_SUITE_P(All, Speed, testing::ValuesIn(families()), [](const auto& family) {
  std::string name = family.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

// The target is t(2k)/t(k) <= 2.3 up to 1 MiB on a quiet machine; a quadratic step anywhere gives 4. Long runs print it.
TEST_P(Speed, GrowsWithTheTextAndNoFaster) {
  const size_t size = long_tests() ? 1 << 20 : kFaultsCompiled ? 1 << 15 : 1 << 17;
  double worst = 0;
  for (const std::string_view unit :
       {"a", " ", "\u4e2d", "\n", "A", "7", ".", "the ", "e\u0301", "\u2581", "\xF0\x9F"}) {
    const double ratio = growth(repeat(unit, size / 2), repeat(unit, size));
    EXPECT_LT(ratio, kGrowth) << testing::PrintToString(unit);
    worst = std::max(worst, ratio);
  }
  if (long_tests()) std::printf("%s: t(2k)/t(k) at most %.2f\n", GetParam().c_str(), worst);
}

// Goals on a quiet core: 10 MB/s, and 4 for SentencePiece's models. A third of that is asserted, a tenth of it in debug builds.
TEST_P(Speed, EncodesMegabytesOfEnglishInASecond) {
  std::string english = read_file(NEUTRINO_SOURCE_DIR "/tests/golden/tokenizer/text.txt", 1 << 20);
  english.erase(0, english.find("The lighthouse"));
  const std::string text = repeat(english, 1 << 19);
  double best = 1e9;
  for (int round = 0; round < 3; ++round)
    best = std::min(best, cpu_milliseconds([&] { tokenizer_->encode(text, Special::parse); }));
  const double megabytes_per_second = static_cast<double>(text.size()) / 1e3 / best;
  if (long_tests()) std::printf("%s: %.1f MB/s\n", GetParam().c_str(), megabytes_per_second);
  const bool pieces = GetParam() == "llama-2" || GetParam() == "t5" || GetParam() == "xlm-roberta";
  EXPECT_GT(megabytes_per_second, (pieces ? 1.3 : 3.3) / (kFaultsCompiled ? 10 : 1));
}

}  // namespace
}  // namespace neutrino::tokenizer
