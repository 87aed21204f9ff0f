#include "base/watchdog.h"

#include <algorithm>

namespace neutrino {

Watchdog::Watchdog(std::chrono::milliseconds limit, std::vector<Subject> subjects,
                   std::function<void(const std::string& name)> on_hang)
    : limit_(limit), subjects_(std::move(subjects)), on_hang_(std::move(on_hang)) {
  if (limit_ > std::chrono::milliseconds(0)) thread_ = std::thread([this] { run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::run() {
  const auto period = std::clamp(limit_ / 10, std::chrono::milliseconds(1), std::chrono::milliseconds(200));
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, period, [this] { return stopping_; })) {
    lock.unlock();
    if (const Subject* subject = stuck()) return on_hang_(subject->name);
    lock.lock();
  }
}

const Watchdog::Subject* Watchdog::stuck() const {
  for (const Subject& subject : subjects_)
    if (std::chrono::nanoseconds(subject.stuck_ns()) > limit_) return &subject;
  return nullptr;
}

}  // namespace neutrino
