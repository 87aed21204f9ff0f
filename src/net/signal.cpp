#include "net/signal.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cerrno>

#include "base/error.h"

namespace neutrino::net {

struct Signal::Timer {
  asio::steady_timer timer;
};

Signal::Signal(const asio::any_io_executor& executor) : executor_(executor) {}
Signal::~Signal() = default;

void Signal::notify() {
  notified_ = true;
  if (timer_) timer_->timer.cancel();
}

asio::awaitable<void> Signal::wait(std::chrono::milliseconds at_most) {
  if (!notified_) {
    boost::system::error_code ignored;
    if (!timer_) timer_.reset(new Timer{asio::steady_timer(executor_)});
    timer_->timer.expires_after(at_most);
    co_await timer_->timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  notified_ = false;
}

struct Wakeups::Descriptor {
  asio::posix::stream_descriptor stream;
};

Wakeups::Wakeups(const asio::any_io_executor& executor) : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw make_error(ErrorCode::internal, "eventfd failed: errno {}", errno);
  descriptor_.reset(new Descriptor{asio::posix::stream_descriptor(executor, fd_)});
}

Wakeups::~Wakeups() = default;

void Wakeups::wake() noexcept {
  const uint64_t one = 1;
  // A full counter means that a wake-up is pending already, which is all that is wanted.
  [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof one);
}

asio::awaitable<void> Wakeups::run() {
  boost::system::error_code failed;
  while (!failed) {
    co_await descriptor_->stream.async_wait(asio::posix::stream_descriptor::wait_read,
                                            asio::redirect_error(asio::use_awaitable, failed));
    if (failed) co_return;
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(fd_, &count, sizeof count);
    for (Signal* signal : subscribers_) signal->notify();
  }
}

void Wakeups::close() { descriptor_->stream.cancel(); }

Wakeups::Subscription::Subscription(Wakeups& wakeups, Signal& signal) : wakeups_(wakeups), signal_(signal) {
  wakeups_.subscribers_.insert(&signal_);
}

Wakeups::Subscription::~Subscription() { wakeups_.subscribers_.erase(&signal_); }

}  // namespace neutrino::net
