#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "base/random.h"

namespace neutrino::engine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr double kAll = std::numeric_limits<double>::infinity();

// Buckets per unit of (maximum - logit) / temperature. Most draws are decided among the tokens nearest to the best: those
// within the first of these distances that hold enough are collected and put into buckets. A little more are collected, so
// that rounding leaves none of their buckets without a member.
constexpr float kPerUnit = 32;
struct Tier {
  float distance, weight;  // exp(-distance), a little more
};
constexpr Tier kTierLimits[] = {
    {3, 0.0498F}, {5, 0.0067385F}, {7, 9.1189e-4F}, {9, 1.2342e-4F}, {11, 1.6702e-5F}};
constexpr float kMargin = 0.01F;

bool changes_logits(const SampleRequest& request) {
  return !request.given &&
         (request.counts != nullptr || !request.parameters->logit_bias.empty() ||
          !request.masked_tokens.empty() || request.allowed != nullptr || request.bias.second != 0);
}

// Some of a row's logits, to be changed: those of the tokens from `first` on.
struct Piece {
  std::span<float> logits;
  int32_t first;
  float* find(int32_t token) const {
    const auto index = static_cast<size_t>(static_cast<int64_t>(token) - first);  // huge, if before the first
    return index < logits.size() ? &logits[index] : nullptr;
  }
};

void apply_penalties(const Piece& piece, const TokenCounts& counts,
                     const chat::SamplingParameters& parameters) {
  const float repetition = static_cast<float>(parameters.repetition_penalty);
  const float frequency = static_cast<float>(parameters.frequency_penalty);
  const float presence = static_cast<float>(parameters.presence_penalty);
  for (const auto& [token, generated] : counts.entries()) {
    float* const found = piece.find(token);
    if (found == nullptr) continue;
    float& logit = *found;
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= frequency * static_cast<float>(generated);
    if (generated > 0) logit -= presence;
  }
}

// Word by word: most words of a mask are empty, and some are full. Pieces begin where a word does.
void apply_token_mask(const Piece& piece, const uint64_t* allowed) {
  const uint64_t* word = allowed + piece.first / 64;
  for (size_t begin = 0; begin < piece.logits.size(); begin += 64, ++word) {
    const std::span<float> logits =
        piece.logits.subspan(begin, std::min<size_t>(64, piece.logits.size() - begin));
    if (*word == 0) std::ranges::fill(logits, kNever);
    if (*word == 0 || ~*word == 0) continue;
    for (size_t i = 0; i < logits.size(); ++i)
      if ((*word >> i & 1) == 0) logits[i] = kNever;
  }
}

void change_logits(const Piece& piece, const SampleRequest& request) {
  if (request.counts != nullptr) apply_penalties(piece, *request.counts, *request.parameters);
  for (const auto& [token, bias] : request.parameters->logit_bias)
    if (float* const logit = piece.find(token)) *logit += bias;
  if (float* const logit = piece.find(request.bias.first)) *logit += request.bias.second;
  for (const int32_t token : request.masked_tokens)
    if (float* const logit = piece.find(token)) *logit = kNever;
  if (request.allowed != nullptr) apply_token_mask(piece, request.allowed);
}

}  // namespace

Sampler::Sampler(int64_t vocab_size)
    : vocab_size_(vocab_size),
      chunks_(static_cast<size_t>(ceil_div(vocab_size, static_cast<int64_t>(kChunk)))) {
  const auto size = static_cast<size_t>(vocab_size);
  changed_logits_.resize(size);
  weights_.resize(size);
  draw_sums_.resize(size / kDrawRun);
  candidates_.resize(size);
  buckets_.resize(kBuckets);
}

Sample Sampler::sample(const SampleRequest& request) {
  start(request);
  for (int64_t chunk = 0; chunk < chunks(); ++chunk) scan(chunk);
  for (int64_t chunk = 0; weighs() && chunk < chunks(); ++chunk) weigh(chunk);
  return finish();
}

// ---- stage by stage

void Sampler::start(const SampleRequest& request) {
  check(std::ssize(request.logits) == vocab_size_, "a row has a logit for each token");
  check(request.top.size() <= static_cast<size_t>(limits::kLogprobs), "more alternatives than there may be");
  request_ = request;
  changed_ = changes_logits(request);
}

bool Sampler::draws() const {
  return !request_.given && request_.parameters->temperature >= kGreedyTemperature;
}

bool Sampler::filters() const {
  const chat::SamplingParameters& parameters = *request_.parameters;
  return parameters.top_k > 0 || parameters.top_p < 1 || parameters.min_p > 0;
}

template <typename T>
std::span<T> Sampler::part(std::span<T> row, int64_t chunk) const {
  const size_t first = static_cast<size_t>(chunk) * kChunk;
  return row.subspan(first, std::min(kChunk, row.size() - first));
}

void Sampler::scan(int64_t index) {
  Chunk& chunk = chunks_[static_cast<size_t>(index)];
  const std::span<const float> raw = part(request_.logits, index);
  chunk.raw = row_extent(raw);
  chunk.maximum = chunk.raw.maximum;
  if (!changed_) return;
  const std::span<float> logits = part(std::span(changed_logits_), index);
  std::ranges::copy(raw, logits.begin());
  change_logits({logits, static_cast<int32_t>(index * static_cast<int64_t>(kChunk))}, request_);
  chunk.maximum = row_extent(logits).maximum;
}

RowExtent Sampler::raw_extent() const {
  RowExtent extent = chunks_[0].raw;
  for (const Chunk& chunk : chunks_) {
    extent.maximum = std::max(extent.maximum, chunk.raw.maximum);
    extent.finite = extent.finite && chunk.raw.finite;
  }
  return extent;
}

float Sampler::maximum() const {
  float maximum = chunks_[0].maximum;
  for (const Chunk& chunk : chunks_) maximum = std::max(maximum, chunk.maximum);
  return maximum;
}

SampleStatus Sampler::status() const {
  const float best = maximum();
  if (!raw_extent().finite) return SampleStatus::not_finite;
  if (best == kNever) return SampleStatus::nothing_allowed;
  return std::isfinite(best) ? SampleStatus::ok : SampleStatus::not_finite;
}

void Sampler::weigh(int64_t chunk) {
  if (status() != SampleStatus::ok) return;
  if (takes_logprobs()) weigh_for_logprobs(chunk);
  if (draws()) weigh_for_draw(chunk);
}

void Sampler::weigh_for_logprobs(int64_t index) {
  Chunk& chunk = chunks_[static_cast<size_t>(index)];
  const std::span<const float> raw = part(request_.logits, index);
  chunk.raw_sums = {};
  exponentials(raw, raw_extent().maximum, 1.0F, chunk.raw_sums, {});
  best_of_row(raw, static_cast<int32_t>(index * static_cast<int64_t>(kChunk)),
              std::span(chunk.top).first(request_.top.size()));
}

void Sampler::weigh_for_draw(int64_t index) {
  Chunk& chunk = chunks_[static_cast<size_t>(index)];
  const size_t first = static_cast<size_t>(index) * kChunk;
  const std::span<float> weights = part(std::span(weights_), index);
  chunk.sums = {};
  exponentials(part(logits(), index), maximum(), scale(), chunk.sums, weights);
  if (filters()) {
    chunk.mass = sum_in_double(weights);
    for (size_t i = 0; i < kTiers; ++i) chunk.tiers[i] = {.least = kTierLimits[i].weight};
    add_to_tiers(weights, chunk.tiers);
  } else {
    for (size_t run = 0; run + kDrawRun <= weights.size(); run += kDrawRun)
      draw_sums_[(first + run) / kDrawRun] = sum_in_lanes(weights.subspan(run, kDrawRun));
  }
}

Sample Sampler::finish() {
  Sample sample{.status = status(), .token = request_.given.value_or(0)};
  if (sample.status != SampleStatus::ok) return sample;
  if (draws()) {
    const double uniform = Philox(request_.seed).uniform(static_cast<uint64_t>(request_.output_position));
    sample.token = filters() ? draw_from_best(uniform) : draw_from_all(uniform);
  } else if (!request_.given) {
    sample.token = best_token();
  }
  if (takes_logprobs()) take_logprobs(sample);
  return sample;
}

// The lowest id of the largest logit.
int32_t Sampler::best_token() const {
  const float best = maximum();
  const auto chunk = std::ranges::find(chunks_, best, &Chunk::maximum) - chunks_.begin();
  return static_cast<int32_t>(chunk * static_cast<int64_t>(kChunk)) +
         first_equal(part(logits(), chunk), best);
}

// log softmax of raw logits: of the token and of the best.
void Sampler::take_logprobs(Sample& sample) const {
  double sum = 0;
  for (const Chunk& chunk : chunks_)
    for (const double run : chunk.raw_sums) sum += run;
  const double maximum = static_cast<double>(raw_extent().maximum), log_sum = log_positive(sum);
  const auto log_softmax = [&](float logit) {
    return static_cast<float>((static_cast<double>(logit) - maximum) - log_sum);
  };
  sample.logprob = log_softmax(request_.logits[static_cast<size_t>(sample.token)]);
  std::ranges::fill(request_.top, chat::TokenLogprob{-1, kNever});
  for (const Chunk& chunk : chunks_)
    merge_best(std::span(chunk.top).first(request_.top.size()), request_.top);
  for (chat::TokenLogprob& entry : request_.top) entry.logprob = log_softmax(entry.logprob);
}

// ---- draws

// Walks the weights in order of id until they have passed `uniform` of the total: first by runs, then inside one.
int32_t Sampler::draw_from_all(double uniform) const {
  double total = 0, passed = 0;
  for (const Chunk& chunk : chunks_)
    for (const double run : chunk.sums) total += run;
  const double target = uniform * total;
  size_t run = 0;
  for (; (run + 1) * kDrawRun < weights_.size() && passed + draw_sums_[run] <= target; ++run)
    passed += draw_sums_[run];
  int32_t last = best_token();  // where rounding leaves nothing above the target
  for (size_t i = run * kDrawRun; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    last = static_cast<int32_t>(i);
    passed += static_cast<double>(weights_[i]);
    if (passed > target) break;
  }
  return last;
}

int32_t Sampler::draw_from_best(double uniform) {
  if (const auto tier = near_tier()) {
    gather_near(*tier);
    if (const auto token = draw_among(Among::near, uniform)) return *token;
  }
  return draw_among(Among::all, uniform).value();
}

bool Sampler::limits_count() const {
  return request_.parameters->top_k > 0 && request_.parameters->top_k < vocab_size_;
}

double Sampler::mass() const {
  double mass = 0;
  for (const Chunk& chunk : chunks_) mass += chunk.mass;
  return mass;
}

// The nearest that seems to hold what may be drawn.
std::optional<size_t> Sampler::near_tier() const {
  const chat::SamplingParameters& parameters = *request_.parameters;
  const double wanted_mass = parameters.top_p * mass() * 1.001;
  for (size_t i = 0; i < kTiers; ++i) {
    WeightTier tier{.least = kTierLimits[i].weight};
    for (const Chunk& chunk : chunks_) tier.count += chunk.tiers[i].count, tier.mass += chunk.tiers[i].mass;
    const bool enough = limits_count()         ? tier.count >= parameters.top_k
                        : parameters.top_p < 1 ? tier.mass >= wanted_mass
                                               : parameters.min_p >= static_cast<double>(tier.least);
    if (enough && tier.count < vocab_size_ / 4) return i;  // with room to sort behind them
  }
  return std::nullopt;
}

void Sampler::gather_near(size_t tier) {
  near_ = 0;
  near_buckets_ = static_cast<size_t>(kTierLimits[tier].distance * kPerUnit);
  const float least = maximum() - (kTierLimits[tier].distance + kMargin) / scale();
  for (int64_t chunk = 0; chunk < chunks(); ++chunk)
    if (chunks_[static_cast<size_t>(chunk)].maximum >= least)
      near_ +=
          take_at_least(part(logits(), chunk), static_cast<int32_t>(chunk * static_cast<int64_t>(kChunk)),
                        least, std::span(candidates_).subspan(near_));
}

// f(candidate), by ascending id.
template <typename F>
void Sampler::for_candidates(Among among, F f) const {
  const std::span<const float> all = logits();
  const size_t count = among == Among::near ? near_ : all.size();
  for (size_t i = 0; i < count; ++i)
    f(among == Among::near ? candidates_[i] : Candidate{all[i], static_cast<int32_t>(i)});
}

// Nothing, if the near ones do not tell.
std::optional<int32_t> Sampler::draw_among(Among among, double uniform) {
  const std::optional<Best> best = limit(among);
  if (!best) return std::nullopt;
  const float least =
      std::max(static_cast<float>(request_.parameters->min_p), std::numeric_limits<float>::min());
  size_t survivors = 0;
  double sum = 0;
  for_candidates(among, [&](Candidate candidate) {
    const float weight = weights_[static_cast<size_t>(candidate.token)];
    const bool stays = weight >= least && best->includes(candidate);
    candidates_[survivors] = candidate;  // without a branch, which a flat distribution would make a guess
    survivors += stays ? 1 : 0;
    sum += stays ? static_cast<double>(weight) : 0;
  });
  double passed = 0;
  for (size_t i = 0; i < survivors; ++i) {
    passed += static_cast<double>(weights_[static_cast<size_t>(candidates_[i].token)]);
    if (passed > uniform * sum) return candidates_[i].token;
  }
  return candidates_[survivors - 1].token;
}

// What top_k and top_p leave.
std::optional<Sampler::Best> Sampler::limit(Among among) {
  const bool sums = request_.parameters->top_p < 1;
  if (among == Among::near && near_ > candidates_.size() / 2) return std::nullopt;  // no room to sort
  const int64_t count = limits_count() ? request_.parameters->top_k : vocab_size_;
  std::optional<Best> best = Best{.mass = mass()};
  if (limits_count() || sums) fill_buckets(among);
  if (limits_count()) best = find_best(among, count, kAll);
  if (sums && best) best = find_best(among, count, request_.parameters->top_p * best->mass);
  return best;
}

// Counts the tokens, and their weight, by distance from the best. Bucket 0 holds the best; the last one takes the rest.
void Sampler::fill_buckets(Among among) {
  std::ranges::fill(buckets_, Bucket{});
  for_candidates(among, [&, maximum = maximum(), scale = scale()](Candidate candidate) {
    Bucket& bucket = buckets_[bucket_of(candidate.logit, maximum, scale)];
    ++bucket.count;
    bucket.mass += static_cast<double>(weights_[static_cast<size_t>(candidate.token)]);
  });
}

size_t Sampler::bucket_of(float logit, float maximum, float scale) {
  return static_cast<size_t>(
      std::min((maximum - logit) * scale * kPerUnit, static_cast<float>(kBuckets - 1)));
}

// The tokens from the best down to where `count` or `mass` is reached. Whole buckets are in or out; only the members of the
// one in which the boundary lies are sorted, since sorting a vocabulary would take milliseconds. Nothing, if the boundary
// lies behind the near ones.
std::optional<Sampler::Best> Sampler::find_best(Among among, int64_t count, double mass) {
  Best best;
  int64_t counted = 0;
  size_t bucket = 0;
  const size_t end = among == Among::near ? near_buckets_ : kBuckets;
  for (; bucket < end; ++bucket) {
    const Bucket& next = buckets_[bucket];
    if (counted + next.count >= count || best.mass + next.mass >= mass) break;
    counted += next.count;
    best.mass += next.mass;
  }
  if (bucket == end) return among == Among::all ? std::optional(best) : std::nullopt;
  const auto members = candidates_.begin() + (among == Among::near ? static_cast<ptrdiff_t>(near_) : 0);
  auto members_end = members;
  for_candidates(among, [&, maximum = maximum(), scale = scale()](Candidate candidate) {
    if (bucket_of(candidate.logit, maximum, scale) == bucket) *members_end++ = candidate;
  });
  std::sort(members, members_end, [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  });
  for (auto member = members; member != members_end && counted < count && best.mass < mass;
       ++member, ++counted) {
    best.last = *member;
    best.mass += static_cast<double>(weights_[static_cast<size_t>(member->token)]);
  }
  return best;
}

}  // namespace neutrino::engine
