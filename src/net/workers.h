// A few threads for work that takes milliseconds (parsing large bodies, templates, tokenising), so that the io thread always
// answers at once.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>

namespace neutrino::net {

namespace asio = boost::asio;

class Workers {
 public:
  explicit Workers(int threads);
  ~Workers();

  int threads() const { return threads_; }
  // Runs `work` on a worker and resumes the caller where it was. What `work` throws arrives at the caller.
  asio::awaitable<void> run(std::function<void()> work);

  int64_t oldest_task_ns()
      const;  // any thread: for how long the work that began first has been running; 0: none runs

 private:
  struct Pool;
  const int threads_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace neutrino::net
