// How a coroutine on the io thread sleeps until something happens to its request.
//
// A Signal belongs to one waiting coroutine: notify() is remembered until the next wait(), so nothing is lost between a look
// at the state and the sleep. Wakeups carries the engine's "there is news" from its thread to every subscribed Signal through
// an eventfd: the engine's side is one write(2), which neither blocks nor allocates.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <memory>
#include <set>

namespace neutrino::net {

namespace asio = boost::asio;

class Signal {
 public:
  explicit Signal(const asio::any_io_executor& executor);
  ~Signal();
  void notify();                                                  // io thread
  asio::awaitable<void> wait(std::chrono::milliseconds at_most);  // returns on notify() or when time is up

 private:
  struct Timer;
  asio::any_io_executor executor_;
  std::unique_ptr<Timer> timer_;  // made by the first wait that waits
  bool notified_ = false;
};

class Wakeups {
 public:
  explicit Wakeups(const asio::any_io_executor& executor);
  ~Wakeups();
  void wake() noexcept;         // any thread
  asio::awaitable<void> run();  // io thread: turns wake() into notify() of all subscribers, until close()
  void close();                 // io thread

  class Subscription {
   public:
    Subscription(Wakeups& wakeups, Signal& signal);
    ~Subscription();
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    Wakeups& wakeups_;
    Signal& signal_;
  };

 private:
  struct Descriptor;
  std::unique_ptr<Descriptor> descriptor_;
  int fd_;                         // owned by descriptor_
  std::set<Signal*> subscribers_;  // borrowed; each leaves with its Subscription
};

}  // namespace neutrino::net
