// A backend that writes down which experts its routers choose. A test may also spoil the routers, to see that the comparison
// notices.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "compute/testing/forwarding_backend.h"

namespace neutrino::models::testing {

class RecordingBackend final : public compute::testing::ForwardingBackend {
 public:
  struct Route {
    int64_t used = 0;
    std::vector<int32_t> experts;  // (rows, used)
  };
  using Spoil = std::function<void(compute::RouterShape& router)>;

  explicit RecordingBackend(compute::Backend& inner, Spoil spoil = {})
      : ForwardingBackend(inner), spoil_(std::move(spoil)) {}

  std::vector<Route> take_routes() { return std::exchange(routes_, {}); }  // of all calls since the last

  compute::Routing route(const compute::Tensor& logits, const compute::RouterShape& router) override {
    compute::RouterShape shape = router;
    if (spoil_) spoil_(shape);
    const compute::Routing routing = inner_.route(logits, shape);
    routes_.push_back({routing.used, {routing.experts, routing.experts + routing.rows * routing.used}});
    return routing;
  }

 private:
  Spoil spoil_;
  std::vector<Route> routes_;
};

}  // namespace neutrino::models::testing
