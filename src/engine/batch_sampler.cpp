#include "engine/batch_sampler.h"

#include <algorithm>

#include "base/error.h"

namespace neutrino::engine {

BatchSampler::BatchSampler(int64_t vocab_size, int64_t rows_max, compute::Backend& backend)
    : backend_(backend), samples_(static_cast<size_t>(rows_max)) {
  const int64_t threads = std::max<int64_t>(1, backend.threads());
  samplers_.reserve(static_cast<size_t>(threads));
  for (int64_t i = 0; i < threads; ++i) samplers_.emplace_back(vocab_size);
}

template <typename F>
void BatchSampler::run(int64_t count, F f) {
  backend_.parallel_for(count, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &f);
}

std::span<const Sample> BatchSampler::sample(std::span<const SampleRequest> requests) {
  check(requests.size() <= samples_.size(), "more rows to sample than there may be");
  requests_ = requests;
  whole_ = std::ssize(requests) - std::ssize(requests) % std::ssize(samplers_);
  next_ = 0;
  if (whole_ > 0) run(std::ssize(samplers_), [this](int64_t sampler) { take_whole_rows(sampler); });
  if (whole_ < std::ssize(requests)) share_rows();
  return std::span(samples_).first(requests.size());
}

void BatchSampler::take_whole_rows(int64_t sampler) {
  for (int64_t row; (row = next_.fetch_add(1, std::memory_order_relaxed)) < whole_;)
    samples_[static_cast<size_t>(row)] =
        samplers_[static_cast<size_t>(sampler)].sample(requests_[static_cast<size_t>(row)]);
}

void BatchSampler::share_rows() {
  const int64_t rows = std::ssize(requests_) - whole_, chunks = samplers_[0].chunks();
  const std::span samplers = std::span(samplers_).first(static_cast<size_t>(rows));
  for (size_t i = 0; i < samplers.size(); ++i) samplers[i].start(requests_[static_cast<size_t>(whole_) + i]);
  run(rows * chunks, [&](int64_t item) { samplers[static_cast<size_t>(item / chunks)].scan(item % chunks); });
  if (std::ranges::any_of(samplers, &Sampler::weighs))
    run(rows * chunks, [&](int64_t item) {
      Sampler& sampler = samplers[static_cast<size_t>(item / chunks)];
      if (sampler.weighs()) sampler.weigh(item % chunks);
    });
  run(rows, [&](int64_t i) {
    samples_[static_cast<size_t>(whole_ + i)] = samplers[static_cast<size_t>(i)].finish();
  });
}

}  // namespace neutrino::engine
