#include "base/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace neutrino {
namespace {

using std::chrono::milliseconds;

int64_t since_ns(std::chrono::steady_clock::time_point start) {
  return (std::chrono::steady_clock::now() - start) / std::chrono::nanoseconds(1);
}

TEST(Watchdog, NamesWhatHangsOnceAndSoon) {
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int> calls{0};
  std::atomic<int64_t> told_ns{0};
  std::string name;
  {
    Watchdog watchdog(milliseconds(50),
                      {{"idle", [] { return int64_t{0}; }}, {"loop", [&] { return since_ns(start); }}},
                      [&](const std::string& who) {
                        name = who;
                        told_ns = since_ns(start);
                        ++calls;
                      });
    std::this_thread::sleep_for(milliseconds(300));
  }
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(name, "loop");
  EXPECT_GE(told_ns, 50'000'000);
}

TEST(Watchdog, LeavesWhatMakesProgressAlone) {
  std::atomic<int> calls{0};
  {
    Watchdog watchdog(milliseconds(20), {{"busy", [] { return int64_t{19'000'000}; }}},
                      [&](const std::string&) { ++calls; });
    Watchdog off(milliseconds(0), {{"stuck", [] { return int64_t{1} << 60; }}},
                 [&](const std::string&) { ++calls; });
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace neutrino
