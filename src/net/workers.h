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

  // Runs `work` on a worker and resumes the caller where it was. What `work` throws arrives at the caller.
  asio::awaitable<void> run(std::function<void()> work);

 private:
  struct Pool;
  std::unique_ptr<Pool> pool_;
};

}  // namespace neutrino::net
