// From a row of logits to a token.
//
// The order is part of the interface:
//   1. raw logits: log probabilities (log softmax in float32) and the best alternatives are taken here
//   2. repetition penalty over prompt and output, then frequency and presence penalties over the output
//   3. logit_bias
//   4. masked tokens (end tokens while the output is shorter than min_tokens), then the token mask of a grammar
//   5. temperature; below kGreedyTemperature the best token is taken, of equals the one with the lowest id
//   6. top_k, then top_p of what is left, then min_p relative to the best
//   7. a draw by Philox with the request's seed as key and the output position as counter
//
// A row's result depends on that row and its request alone: sums run in fixed lanes, exp and log are polynomials of our own
// without fused operations, so the bits are the same on every CPU. Nothing allocates after the constructor.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "chat/chat_model.h"
#include "engine/token_counts.h"

namespace neutrino::engine {

inline constexpr double kGreedyTemperature = 1e-5;

struct SampleRequest {
  std::span<const float> logits;  // (vocab_size), raw
  const chat::SamplingParameters* parameters = nullptr;
  uint64_t seed = 0;
  int64_t output_position = 0;          // how many tokens were generated before this one
  const TokenCounts* counts = nullptr;  // absent: no penalties
  std::span<const int32_t> masked_tokens = {};
  const uint64_t* allowed = nullptr;       // bit t of word t / 64: token t may come; absent: all may
  bool logprob = false;                    // is Sample::logprob wanted?
  std::span<chat::TokenLogprob> top = {};  // filled with the best alternatives, best first
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

class Sampler {
 public:
  // `slices`: how many threads may sample at once, each with a slice of its own.
  Sampler(int64_t vocab_size, int64_t slices);

  Sample sample(const SampleRequest& request, int64_t slice);
  // The log probability of a given token, and the best alternatives: for prompts.
  Sample score(std::span<const float> logits, int32_t token, std::span<chat::TokenLogprob> top) const;

 private:
  static constexpr size_t kBuckets = 1024;
  struct Candidate {
    float logit = 0;
    int32_t token = 0;
  };
  struct Bucket {
    int64_t count = 0;
    double mass = 0;
  };
  struct Slice {
    std::vector<float> logits;          // a copy that penalties and masks change
    std::vector<float> weights;         // exp((logit - max) / temperature)
    std::vector<uint16_t> bucket_of;    // each token's, by that distance
    std::vector<Bucket> buckets;        // (kBuckets)
    std::vector<Candidate> candidates;  // first a bucket's members, then what may be drawn
  };
  // A number of best tokens, told by the last of them; of equal logits the lower id comes first.
  struct Best {
    Candidate last{-std::numeric_limits<float>::infinity(), std::numeric_limits<int32_t>::max()};
    double mass = 0;
    bool includes(const Candidate& other) const {
      return other.logit > last.logit || (other.logit == last.logit && other.token <= last.token);
    }
  };

  static void fill_buckets(Slice& slice, std::span<const float> logits, float maximum, float scale);
  static Best find_best(Slice& slice, std::span<const float> logits, int64_t count, double mass);
  static int32_t draw_from_all(Slice& slice, std::span<const float> logits, float maximum, float scale,
                               double uniform);
  static int32_t draw_from_best(Slice& slice, std::span<const float> logits, float maximum, float scale,
                                double uniform, const chat::SamplingParameters& parameters);

  int64_t vocab_size_;
  std::vector<Slice> slices_;
};

// Throws Error{invalid_argument} naming the parameter that is out of its range. `vocab_size` bounds ids.
void validate(const chat::SamplingParameters& parameters, int64_t vocab_size);

}  // namespace neutrino::engine
