#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/limits.h"
#include "base/random.h"
#include "engine/row_math.h"

namespace neutrino::engine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool changes_logits(const SampleRequest& request) {
  return request.counts != nullptr || !request.parameters->logit_bias.empty() ||
         !request.masked_tokens.empty() || request.allowed != nullptr;
}

void apply_penalties(std::span<float> logits, const TokenCounts& counts,
                     const chat::SamplingParameters& parameters) {
  const float repetition = static_cast<float>(parameters.repetition_penalty);
  const float frequency = static_cast<float>(parameters.frequency_penalty);
  const float presence = static_cast<float>(parameters.presence_penalty);
  for (const auto& [token, generated] : counts.entries()) {
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= frequency * static_cast<float>(generated);
    if (generated > 0) logit -= presence;
  }
}

void apply_token_mask(std::span<float> logits, const uint64_t* allowed) {
  for (size_t token = 0; token < logits.size(); ++token)
    if ((allowed[token / 64] >> (token % 64) & 1) == 0) logits[token] = kNever;
}

void change_logits(std::span<float> logits, const SampleRequest& request) {
  if (request.counts != nullptr) apply_penalties(logits, *request.counts, *request.parameters);
  for (const auto& [token, bias] : request.parameters->logit_bias) logits[static_cast<size_t>(token)] += bias;
  for (const int32_t token : request.masked_tokens) logits[static_cast<size_t>(token)] = kNever;
  if (request.allowed != nullptr) apply_token_mask(logits, request.allowed);
}

// log softmax of the chosen tokens, from raw logits.
class LogSoftmax {
 public:
  LogSoftmax(std::span<const float> logits, float maximum)
      : maximum_(maximum), log_sum_(log_positive(sum_of_exponentials(logits, maximum, 1.0F))) {}
  float operator()(float logit) const {
    return static_cast<float>((static_cast<double>(logit) - static_cast<double>(maximum_)) - log_sum_);
  }

 private:
  float maximum_;
  double log_sum_;
};

void fill_top(std::span<const float> logits, const LogSoftmax& log_softmax,
              std::span<chat::TokenLogprob> top) {
  best_of_row(logits, top);
  for (chat::TokenLogprob& entry : top) entry.logprob = log_softmax(entry.logprob);
}

bool filters(const chat::SamplingParameters& parameters) {
  return parameters.top_k > 0 || parameters.top_p < 1 || parameters.min_p > 0;
}

}  // namespace

Sampler::Sampler(int64_t vocab_size, int64_t slices)
    : vocab_size_(vocab_size), slices_(static_cast<size_t>(slices)) {
  for (Slice& slice : slices_) {
    slice.logits.resize(static_cast<size_t>(vocab_size));
    slice.weights.resize(static_cast<size_t>(vocab_size));
    slice.candidates.resize(static_cast<size_t>(vocab_size));
    slice.bucket_of.resize(static_cast<size_t>(vocab_size));
    slice.buckets.resize(kBuckets);
  }
}

Sample Sampler::sample(const SampleRequest& request, int64_t slice_index) {
  Slice& slice = slices_[static_cast<size_t>(slice_index)];
  const RowExtent raw = row_extent(request.logits);
  if (!raw.finite) return {.status = SampleStatus::not_finite};

  std::span<const float> logits = request.logits;
  float maximum = raw.maximum;
  if (changes_logits(request)) {
    std::ranges::copy(request.logits, slice.logits.begin());
    change_logits(slice.logits, request);
    logits = slice.logits;
    maximum = *std::ranges::max_element(logits);
    if (maximum == kNever) return {.status = SampleStatus::nothing_allowed};
    if (!std::isfinite(maximum)) return {.status = SampleStatus::not_finite};
  }

  Sample sample;
  if (request.parameters->temperature < kGreedyTemperature) {
    sample.token = first_equal(logits, maximum);
  } else {
    const float scale = static_cast<float>(1.0 / request.parameters->temperature);
    const double uniform = Philox(request.seed).uniform(static_cast<uint64_t>(request.output_position));
    sample.token = filters(*request.parameters)
                       ? draw_from_best(slice, logits, maximum, scale, uniform, *request.parameters)
                       : draw_from_all(slice, logits, maximum, scale, uniform);
  }
  if (request.logprob) {
    const LogSoftmax log_softmax(request.logits, raw.maximum);
    sample.logprob = log_softmax(request.logits[static_cast<size_t>(sample.token)]);
    fill_top(request.logits, log_softmax, request.top);
  }
  return sample;
}

Sample Sampler::score(std::span<const float> logits, int32_t token, std::span<chat::TokenLogprob> top) const {
  const RowExtent raw = row_extent(logits);
  if (!raw.finite) return {.status = SampleStatus::not_finite};
  const LogSoftmax log_softmax(logits, raw.maximum);
  fill_top(logits, log_softmax, top);
  return {.token = token, .logprob = log_softmax(logits[static_cast<size_t>(token)])};
}

// Walks the weights in order of id until they have passed `uniform` of the total: first by runs, then inside one.
int32_t Sampler::draw_from_all(Slice& slice, std::span<const float> logits, float maximum, float scale,
                               double uniform) {
  constexpr size_t kRun = 512;
  const size_t size = logits.size();
  const double target = uniform * sum_of_exponentials(logits, maximum, scale, slice.weights);
  double passed = 0;
  size_t run = 0;
  for (; run + kRun < size; run += kRun) {
    std::array<float, 16> lanes{};
    for (size_t i = run; i < run + kRun; i += 16)
      for (size_t j = 0; j < 16; ++j) lanes[j] += slice.weights[i + j];
    double sum = 0;
    for (const float lane : lanes) sum += static_cast<double>(lane);
    if (passed + sum > target) break;
    passed += sum;
  }
  int32_t last = first_equal(logits, maximum);  // where rounding leaves nothing above the target
  for (size_t i = run; i < size; ++i) {
    if (slice.weights[i] == 0) continue;
    last = static_cast<int32_t>(i);
    passed += static_cast<double>(slice.weights[i]);
    if (passed > target) break;
  }
  return last;
}

// Counts the tokens, and their weight, by distance from the best. Bucket 0 holds the best; the last one takes the rest.
void Sampler::fill_buckets(Slice& slice, std::span<const float> logits, float maximum, float scale) {
  constexpr float kPerUnit = 32;  // buckets per unit of (maximum - logit) / temperature
  std::ranges::fill(slice.buckets, Bucket{});
  for (size_t i = 0; i < logits.size(); ++i) {
    const float distance =
        std::min((maximum - logits[i]) * scale * kPerUnit, static_cast<float>(kBuckets - 1));
    const auto index = static_cast<uint16_t>(distance);
    slice.bucket_of[i] = index;
    ++slice.buckets[index].count;
    slice.buckets[index].mass += static_cast<double>(slice.weights[i]);
  }
}

// The tokens from the best down to where `count` or `mass` is reached. Whole buckets are in or out; only the members of the
// one in which the boundary lies are sorted, since sorting a vocabulary would take milliseconds.
Sampler::Best Sampler::find_best(Slice& slice, std::span<const float> logits, int64_t count, double mass) {
  Best best;
  int64_t counted = 0;
  size_t bucket = 0;
  for (; bucket < kBuckets; ++bucket) {
    const Bucket& next = slice.buckets[bucket];
    if (counted + next.count >= count || best.mass + next.mass >= mass) break;
    counted += next.count;
    best.mass += next.mass;
  }
  if (bucket == kBuckets) return best;  // all of them
  size_t members = 0;
  for (size_t i = 0; i < logits.size(); ++i)
    if (slice.bucket_of[i] == bucket) slice.candidates[members++] = {logits[i], static_cast<int32_t>(i)};
  std::sort(slice.candidates.begin(), slice.candidates.begin() + static_cast<ptrdiff_t>(members),
            [](const Candidate& a, const Candidate& b) {
              return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
            });
  for (size_t i = 0; i < members && counted < count && best.mass < mass; ++i, ++counted) {
    best.last = slice.candidates[i];
    best.mass += static_cast<double>(slice.weights[static_cast<size_t>(best.last.token)]);
  }
  return best;
}

int32_t Sampler::draw_from_best(Slice& slice, std::span<const float> logits, float maximum, float scale,
                                double uniform, const chat::SamplingParameters& parameters) {
  constexpr double kAll = std::numeric_limits<double>::infinity();
  sum_of_exponentials(logits, maximum, scale, slice.weights);
  fill_buckets(slice, logits, maximum, scale);
  const int64_t size = std::ssize(logits),
                count = parameters.top_k > 0 ? std::min(parameters.top_k, size) : size;
  Best best = find_best(slice, logits, count, kAll);
  if (parameters.top_p < 1) best = find_best(slice, logits, count, parameters.top_p * best.mass);

  const float least = std::max(static_cast<float>(parameters.min_p), std::numeric_limits<float>::min());
  size_t survivors = 0;
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{logits[i], static_cast<int32_t>(i)};
    if (slice.weights[i] < least || !best.includes(candidate)) continue;
    slice.candidates[survivors++] = candidate;
    sum += static_cast<double>(slice.weights[i]);
  }
  double passed = 0;
  for (size_t i = 0; i < survivors; ++i) {
    passed += static_cast<double>(slice.weights[static_cast<size_t>(slice.candidates[i].token)]);
    if (passed > uniform * sum) return slice.candidates[i].token;
  }
  return slice.candidates[survivors - 1].token;
}

namespace {

void expect(bool good, const char* name, const auto& value, std::string_view expectation) {
  if (good) return;
  throw make_error(ErrorCode::invalid_argument, "{} must be {}, got {}", name, expectation, value)
      .with_param(name);
}

void expect_range(const char* name, double value, double low, double high) {
  expect(value >= low && value <= high, name, value, fmt::format("{} to {}", low, high));  // false for NaN
}

void expect_token(const char* name, int32_t token, int64_t vocab_size) {
  expect(token >= 0 && token < vocab_size, name, token,
         fmt::format("token ids from 0 to {}", vocab_size - 1));
}

}  // namespace

void validate(const chat::SamplingParameters& p, int64_t vocab_size) {
  expect_range("temperature", p.temperature, 0, 2);
  expect(p.top_k >= 0, "top_k", p.top_k, "at least 0");
  expect(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "above 0 and at most 1");
  expect_range("min_p", p.min_p, 0, 1);
  expect_range("presence_penalty", p.presence_penalty, -2, 2);
  expect_range("frequency_penalty", p.frequency_penalty, -2, 2);
  expect_range("repetition_penalty", p.repetition_penalty, 0.01, 100);
  expect(p.max_tokens >= 0, "max_tokens", p.max_tokens, "at least 0");
  expect(p.min_tokens >= 0 && p.min_tokens <= p.max_tokens, "min_tokens", p.min_tokens, "0 to max_tokens");
  if (p.logprobs) expect_range("logprobs", static_cast<double>(*p.logprobs), 0, limits::kLogprobs);
  if (p.prompt_logprobs)
    expect_range("prompt_logprobs", static_cast<double>(*p.prompt_logprobs), 0, limits::kLogprobs);
  expect(std::ssize(p.logit_bias) <= limits::kLogitBias, "logit_bias", p.logit_bias.size(),
         fmt::format("at most {} entries", limits::kLogitBias));
  for (const auto& [token, bias] : p.logit_bias) {
    expect_token("logit_bias", token, vocab_size);
    expect_range("logit_bias", static_cast<double>(bias), -100, 100);
  }
  expect(std::ssize(p.stop_token_ids) <= limits::kStopTokenIds, "stop_token_ids", p.stop_token_ids.size(),
         fmt::format("at most {} ids", limits::kStopTokenIds));
  for (const int32_t token : p.stop_token_ids) expect_token("stop_token_ids", token, vocab_size);
  expect(std::ssize(p.stop) <= limits::kStopStrings, "stop", p.stop.size(),
         fmt::format("at most {} strings", limits::kStopStrings));
  for (const std::string& stop : p.stop)
    expect(!stop.empty() && std::ssize(stop) <= limits::kStopStringBytes, "stop", stop.size(),
           fmt::format("strings of 1 to {} bytes", limits::kStopStringBytes));
}

}  // namespace neutrino::engine
