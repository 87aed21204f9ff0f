// Test-time compute: several answers to one prompt, and which of them is given.
//
//   best of n        the first that passes an executable check; without a check, or if none passes, the one with the highest mean
//                    log probability of its tokens
//   majority vote    self-consistency (Wang et al. 2022): the most frequent final answer; ended early as soon as what is
//                    missing cannot change it, or the leader's share of the votes is large enough
//   DeepConf         (Fu et al. 2025, arXiv 2508.15260, online): votes weighted by confidence; warm-up candidates set a threshold,
//                    and a later one is given up when the confidence of a window of its tokens falls below it
//
// A decision looks at the candidates in their order and only as far as it must, never at which happened to finish first: one
// seed gives one answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/chat_model.h"
#include "text/pattern.h"

namespace neutrino::chat {

// Where the final answer stands in a text.
enum class ExtractorKind : uint8_t { whole, last_line, boxed, regex, json_path };

class AnswerExtractor {
 public:
  // `pattern`: of regex (its last match, or that match's group) and json_path ("$.a[0]['b c']"). Throws
  // Error{invalid_argument} for one that cannot be used.
  explicit AnswerExtractor(ExtractorKind kind = ExtractorKind::whole, std::string_view pattern = {});

  // Without white space around it; of a JSON path the value in compact JSON, a string's own text. nullopt: there is none.
  std::optional<std::string> extract(std::string_view text) const;

 private:
  ExtractorKind kind_;
  std::shared_ptr<const text::Pattern> pattern_;
  std::vector<std::string> path_;  // keys, and indices in decimal behind a '\0'
};

// How sure the model was, token by token: the mean of -log p over the best alternatives (high: the others were unlikely), in
// a sliding window of tokens.
class Confidence {
 public:
  explicit Confidence(int64_t window) : window_(static_cast<size_t>(window)) {}
  void add(const GeneratedToken& token);
  // Of the lowest full window, or of all tokens while there is none; infinity without tokens.
  double lowest() const;

 private:
  size_t window_;
  std::vector<double> values_;
  double sum_ = 0;  // of the last window
  std::optional<double> lowest_;
};

// The value that `percent` of the values are not above (nearest rank). `values` is not empty.
double percentile(std::vector<double> values, double percent);

struct Candidate {
  bool finished = false;
  bool given_up = false;  // by its confidence, before its end: it has no vote
  std::string text = {};
  std::optional<std::string> answer = {};
  bool passed = false;  // the check
  double mean_logprob = 0;
  double confidence = 0;
  int64_t tokens = 0;
};

enum class Strategy : uint8_t { best_of_n, majority_vote, deep_conf };

struct SelectionRule {
  Strategy strategy = Strategy::best_of_n;
  bool has_check = false;  // best_of_n
  double vote_share = 1;   // of the votes that were cast: enough to stop, once kVotesMin are in
  static constexpr int64_t kVotesMin = 3;
};

struct VoteCount {
  std::string answer;
  double weight = 0;  // a vote is 1, with DeepConf the candidate's confidence
  int64_t first = 0;  // the first candidate that gave it
};

struct Decision {
  int64_t winner = 0;
  int64_t considered = 0;             // of the candidates, in their order
  std::vector<VoteCount> votes = {};  // most first, of equals the one that came first
};

// nullopt: not yet. When all have finished there is a decision. `candidates` is not empty.
std::optional<Decision> decide(const SelectionRule& rule, std::span<const Candidate> candidates);

}  // namespace neutrino::chat
