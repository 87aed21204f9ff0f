// A step's rows of logits to tokens, on the compute threads.
//
// Each thread takes whole rows, one after the other, as long as there is one for every thread; the last ones, fewer than
// threads, are shared: all threads pass over chunks of the vocabulary. Which way a row went does not show in its result.
// Owned by the engine thread; nothing allocates after the constructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "compute/backend.h"
#include "engine/sampler.h"

namespace neutrino::engine {

class BatchSampler {
 public:
  // `rows_max`: in one call. The backend, whose threads work, outlives this object.
  BatchSampler(int64_t vocab_size, int64_t rows_max, compute::Backend& backend);

  // Valid until the next call. What the requests refer to is read, and their `top` written, before it returns.
  std::span<const Sample> sample(std::span<const SampleRequest> requests);

 private:
  void take_whole_rows(int64_t sampler);
  void share_rows();
  template <typename F>
  void run(int64_t count, F f);

  compute::Backend& backend_;
  std::vector<Sampler> samplers_;  // one a thread
  std::vector<Sample> samples_;
  std::span<const SampleRequest> requests_;
  int64_t whole_ = 0;             // of the requests: those that one thread does
  std::atomic<int64_t> next_{0};  // of these
};

}  // namespace neutrino::engine
