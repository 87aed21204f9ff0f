// Time as an interface, so that a simulation can own it.
#pragma once

#include <chrono>
#include <cstdint>

namespace neutrino {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() const = 0;   // monotonic
  virtual int64_t unix_ms() const = 0;  // wall clock
};

class SystemClock final : public Clock {
 public:
  int64_t now_ns() const override {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  int64_t unix_ms() const override {
    return std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
  }
};

class SimulatedClock final : public Clock {
 public:
  int64_t now_ns() const override { return now_ns_; }
  int64_t unix_ms() const override { return now_ns_ / 1'000'000; }
  void advance_ns(int64_t ns) { now_ns_ += ns; }

 private:
  int64_t now_ns_ = 0;
};

}  // namespace neutrino
