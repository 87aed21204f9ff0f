// A thread that notices when something that must make progress does not: a loop that hangs cannot say so itself.
//
// Each subject tells for how long it has been busy without progress. When one exceeds the limit, `on_hang` is called with its name,
// once, on the watchdog's thread, at most a tenth of the limit (and 200 ms) late.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace neutrino {

class Watchdog {
 public:
  struct Subject {
    std::string name;
    std::function<int64_t()> stuck_ns;  // any thread; 0: idle, or it made progress just now
  };

  // `limit` 0: watches nothing. What the functions refer to outlives this object.
  Watchdog(std::chrono::milliseconds limit, std::vector<Subject> subjects,
           std::function<void(const std::string& name)> on_hang);
  ~Watchdog();  // waits for on_hang, if it runs

 private:
  void run();
  const Subject* stuck() const;

  const std::chrono::milliseconds limit_;
  const std::vector<Subject> subjects_;
  const std::function<void(const std::string&)> on_hang_;
  std::mutex mutex_;  // guards the one below
  bool stopping_ = false;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace neutrino
