// From a row of logits to a token.
//
// The order is part of the interface:
//   1. raw logits: log probabilities (log softmax in float32) and the best alternatives are taken here
//   2. repetition penalty over prompt and output, then frequency and presence penalties over the output
//   3. logit_bias, and the bias that a thinking budget puts on the closing tag
//   4. masked tokens (end tokens while the output is shorter than min_tokens), then the token mask of a grammar
//   5. temperature; below kGreedyTemperature the best token is taken, of equals the one with the lowest id
//   6. top_k, then top_p of what is left, then min_p relative to the best
//   7. a draw by Philox with the request's seed as key and the output position as counter
//
// The work on a row is cut into chunks of the vocabulary, which threads may share (batch_sampler.h): first each chunk is
// scanned, for its maximum, then each is weighed, where exponentials are needed; the rest is little. What chunks found is put
// together in their order, so the result depends on the row and its request alone: sums run in fixed lanes, exp and log are
// polynomials of our own without fused operations, and the bits are the same on every CPU and for any number of threads.
// Nothing allocates after the constructor.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "chat/chat_model.h"
#include "engine/row_math.h"
#include "engine/token_counts.h"

namespace neutrino::engine {

inline constexpr double kGreedyTemperature = 1e-5;

struct SampleRequest {
  std::span<const float> logits;                         // (vocab_size), raw
  const chat::SamplingParameters* parameters = nullptr;  // not needed where a token is given
  std::optional<int32_t> given = {};  // a prompt's next token: nothing is drawn, it is scored
  uint64_t seed = 0;
  int64_t output_position = 0;          // how many tokens were generated before this one
  const TokenCounts* counts = nullptr;  // absent: no penalties
  std::span<const int32_t> masked_tokens = {};
  const uint64_t* allowed = nullptr;    // bit t of word t / 64: token t may come; absent: all may
  std::pair<int32_t, float> bias = {};  // one more logit_bias; an amount of 0 is none
  bool logprob = false;                 // is Sample::logprob wanted? Of a given token it always is
  std::span<chat::TokenLogprob> top =
      {};  // then filled with the best alternatives, best first; at most kLogprobs
};

enum class SampleStatus {
  ok,
  not_finite,      // NaN or infinity in the logits
  nothing_allowed  // the masks leave no token
};

struct Sample {
  SampleStatus status = SampleStatus::ok;
  int32_t token = 0;
  float logprob = 0;
};

// One row at a time.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);

  Sample sample(const SampleRequest& request);  // all of it on the calling thread

  // The same by parts: start(), scan() of each chunk, then, if it weighs(), weigh() of each chunk, then finish(). The chunks
  // of one stage on any threads, in any order. What the request refers to must last until then.
  int64_t chunks() const { return static_cast<int64_t>(chunks_.size()); }
  void start(const SampleRequest& request);
  void scan(int64_t chunk);
  bool weighs() const { return draws() || takes_logprobs(); }
  void weigh(int64_t chunk);
  Sample finish();

 private:
  static constexpr size_t kBuckets = 1024;
  static constexpr size_t kChunk = 2 * kSumRun;  // tokens: 32 KB of logits
  static constexpr size_t kDrawRun = 512;        // tokens whose weights are passed over together
  static constexpr size_t kTiers = 5;
  struct Bucket {
    int64_t count = 0;
    double mass = 0;
  };
  struct alignas(64) Chunk {
    RowExtent raw;
    float maximum = 0;                                        // of the logits that a token is drawn from
    std::array<double, kChunk / kSumRun + 1> raw_sums, sums;  // of exponentials: for log softmax, for a draw
    double mass = 0;                                          // the same as `sums`, in double
    std::array<WeightTier, kTiers> tiers;
    std::array<chat::TokenLogprob, limits::kLogprobs> top;
  };
  // A number of best tokens, told by the last of them; of equal logits the lower id comes first.
  struct Best {
    Candidate last{-std::numeric_limits<float>::infinity(), std::numeric_limits<int32_t>::max()};
    double mass = 0;
    bool includes(const Candidate& other) const {
      return other.logit > last.logit || (other.logit == last.logit && other.token <= last.token);
    }
  };
  // Where the tokens are that may be drawn: among candidates_, all within a distance of the best, or anywhere.
  enum class Among : uint8_t { near, all };

  bool draws() const;
  bool filters() const;
  bool limits_count() const;
  double mass() const;  // of all weights
  bool takes_logprobs() const { return request_.logprob || request_.given; }
  float scale() const { return static_cast<float>(1.0 / request_.parameters->temperature); }
  std::span<const float> logits() const {
    return changed_ ? std::span<const float>(changed_logits_) : request_.logits;
  }
  template <typename T>
  std::span<T> part(std::span<T> row, int64_t chunk) const;
  RowExtent raw_extent() const;
  float maximum() const;
  SampleStatus status() const;
  void weigh_for_draw(int64_t chunk);
  void weigh_for_logprobs(int64_t chunk);
  int32_t best_token() const;
  int32_t draw_from_all(double uniform) const;
  int32_t draw_from_best(double uniform);
  std::optional<int32_t> draw_among(Among among, double uniform);
  std::optional<Best> limit(Among among);
  std::optional<Best> find_best(Among among, int64_t count, double mass);
  template <typename F>
  void for_candidates(Among among, F f) const;
  void fill_buckets(Among among);
  static size_t bucket_of(float logit, float maximum, float scale);
  std::optional<size_t> near_tier() const;
  void gather_near(size_t tier);
  void take_logprobs(Sample& sample) const;

  const int64_t vocab_size_;
  SampleRequest request_;
  bool changed_ = false;  // by penalties, biases or masks
  std::vector<Chunk> chunks_;
  std::vector<float> changed_logits_;   // (vocab_size)
  std::vector<float> weights_;          // (vocab_size): exp((logit - maximum) / temperature)
  std::vector<double> draw_sums_;       // of whole runs of kDrawRun weights
  std::vector<Candidate> candidates_;   // (vocab_size): those near the maximum; then what may be drawn
  size_t near_ = 0, near_buckets_ = 0;  // of them, once gathered; of the buckets, those that are whole then
  std::vector<Bucket> buckets_;         // (kBuckets): tokens by distance from the maximum
};

// Throws Error{invalid_argument} naming the parameter that is out of its range. `vocab_size` bounds ids.
void validate(const chat::SamplingParameters& parameters, int64_t vocab_size);

}  // namespace neutrino::engine
