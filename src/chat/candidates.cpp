#include "chat/candidates.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace neutrino::chat {
namespace {

constexpr char kIndexMark = '\0';

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::optional<std::string> if_any(std::string_view text) {
  const std::string_view part = trimmed(text);
  return part.empty() ? std::nullopt : std::optional(std::string(part));
}

// The contents of the last \boxed{...} whose braces are balanced.
std::optional<std::string> boxed(std::string_view text) {
  constexpr std::string_view kBoxed = "\\boxed{";
  for (size_t end = text.size(), at; (at = text.substr(0, end).rfind(kBoxed)) != std::string_view::npos;
       end = at) {
    int64_t depth = 1;
    for (size_t i = at + kBoxed.size(); i < text.size(); ++i) {
      depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
      if (depth == 0) return if_any(text.substr(at + kBoxed.size(), i - at - kBoxed.size()));
    }
  }
  return std::nullopt;
}

Error bad_path(std::string_view path) {
  return make_error(ErrorCode::invalid_argument,
                    "a JSON path is $ and steps .name, ['name'] or [0], got \"{:.100}\"", path);
}

// One step in brackets; `path` begins behind the opening one.
std::string take_bracket(std::string_view& path, std::string_view whole) {
  const size_t end = path.starts_with('\'') ? path.find("']") : path.find(']');
  if (end == std::string_view::npos || end == 0) throw bad_path(whole);
  const bool quoted = path.front() == '\'';
  std::string step(path.substr(quoted ? 1 : 0, quoted ? end - 1 : end));
  path.remove_prefix(end + (quoted ? 2 : 1));
  if (quoted) return step;
  if (step.size() > 9 || !std::ranges::all_of(step, [](char c) { return c >= '0' && c <= '9'; }))
    throw bad_path(whole);
  return kIndexMark + step;
}

std::vector<std::string> parse_path(std::string_view path) {
  const std::string_view whole = path;
  if (!path.starts_with('$')) throw bad_path(whole);
  path.remove_prefix(1);
  std::vector<std::string> steps;
  while (!path.empty()) {
    const bool bracket = path.front() == '[';
    if (!bracket && path.front() != '.') throw bad_path(whole);
    path.remove_prefix(1);
    if (bracket) {
      steps.push_back(take_bracket(path, whole));
      continue;
    }
    const size_t end = std::min(path.find_first_of(".["), path.size());
    if (end == 0) throw bad_path(whole);
    steps.emplace_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return steps;
}

const json::value* step_into(const json::value& value, const std::string& step) {
  if (step.empty() || step.front() != kIndexMark) {
    const json::object* object = value.if_object();
    return object ? object->if_contains(step) : nullptr;
  }
  size_t index = 0;
  std::from_chars(step.data() + 1, step.data() + step.size(), index);
  const json::array* array = value.if_array();
  return array ? array->if_contains(index) : nullptr;
}

std::optional<std::string> follow(const std::vector<std::string>& path, std::string_view text) {
  json::value root;
  try {
    root = parse_json(text);
  } catch (const Error&) {
    return std::nullopt;
  }
  const json::value* value = &root;
  for (const std::string& step : path) {
    value = step_into(*value, step);
    if (!value) return std::nullopt;
  }
  return value->is_string() ? std::string(value->get_string()) : to_text(*value);
}

// ---- decisions

int64_t finished_in_order(std::span<const Candidate> candidates) {
  return std::ranges::find(candidates, false, &Candidate::finished) - candidates.begin();
}

std::optional<Decision> best_of_n(const SelectionRule& rule, std::span<const Candidate> candidates) {
  const int64_t finished = finished_in_order(candidates);
  for (int64_t i = 0; rule.has_check && i < finished; ++i)
    if (candidates[static_cast<size_t>(i)].passed) return Decision{.winner = i, .considered = i + 1};
  if (finished < std::ssize(candidates)) return std::nullopt;
  const auto best = std::ranges::max_element(candidates, std::less{}, &Candidate::mean_logprob);
  return Decision{.winner = best - candidates.begin(), .considered = finished};
}

// The votes of the first candidates, one after the other.
class Poll {
 public:
  explicit Poll(Strategy strategy) : weighted_(strategy == Strategy::deep_conf) {}

  void add(const Candidate& candidate, int64_t index) {
    if (candidate.given_up || !candidate.answer) return;
    ++cast_;
    const double weight = weighted_ ? candidate.confidence : 1;
    total_ += weight;
    const auto same = std::ranges::find(votes_, *candidate.answer, &VoteCount::answer);
    if (same == votes_.end())
      votes_.push_back({*candidate.answer, weight, index});
    else
      same->weight += weight;
    std::ranges::sort(votes_, [](const VoteCount& a, const VoteCount& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.first < b.first;
    });
  }

  // Of one vote each: nobody can catch up any more.
  bool is_settled(int64_t missing) const {
    if (votes_.empty() || weighted_) return false;
    const double second = votes_.size() > 1 ? votes_[1].weight : 0;
    return votes_[0].weight > second + static_cast<double>(missing);
  }
  bool is_clear(double share) const {
    return cast_ >= SelectionRule::kVotesMin && share < 1 && votes_[0].weight >= share * total_;
  }
  std::vector<VoteCount> take() { return std::move(votes_); }

 private:
  const bool weighted_;
  int64_t cast_ = 0;
  double total_ = 0;
  std::vector<VoteCount> votes_;
};

// Of those that gave the winning answer, the one the model found most likely; if nobody gave an answer, of all.
int64_t spokesman(std::span<const Candidate> candidates, const std::vector<VoteCount>& votes) {
  int64_t best = -1;
  const auto better = [&](const Candidate& candidate) {
    return best < 0 || candidate.mean_logprob > candidates[static_cast<size_t>(best)].mean_logprob;
  };
  for (int64_t i = 0; i < std::ssize(candidates); ++i) {
    const Candidate& candidate = candidates[static_cast<size_t>(i)];
    const bool speaks = votes.empty() || (!candidate.given_up && candidate.answer == votes[0].answer);
    if (speaks && better(candidate)) best = i;
  }
  return best;
}

std::optional<Decision> vote(const SelectionRule& rule, std::span<const Candidate> candidates) {
  Poll poll(rule.strategy);
  const int64_t finished = finished_in_order(candidates);
  for (int64_t i = 0; i < finished; ++i) {
    poll.add(candidates[static_cast<size_t>(i)], i);
    const int64_t missing = std::ssize(candidates) - i - 1;
    if (missing > 0 && !poll.is_settled(missing) && !poll.is_clear(rule.vote_share)) continue;
    Decision decision{.considered = i + 1, .votes = poll.take()};
    decision.winner = spokesman(candidates.first(static_cast<size_t>(i + 1)), decision.votes);
    return decision;
  }
  return std::nullopt;
}

}  // namespace

AnswerExtractor::AnswerExtractor(ExtractorKind kind, std::string_view pattern) : kind_(kind) {
  if (kind == ExtractorKind::regex) pattern_ = std::make_shared<const text::Pattern>(pattern);
  if (kind == ExtractorKind::json_path) path_ = parse_path(pattern);
}

std::optional<std::string> AnswerExtractor::extract(std::string_view text) const {
  switch (kind_) {
    case ExtractorKind::whole: return if_any(text);
    case ExtractorKind::last_line: {
      const std::string_view all = trimmed(text);
      return if_any(all.substr(all.find_last_of('\n') + 1));
    }
    case ExtractorKind::boxed: return boxed(text);
    case ExtractorKind::regex: {
      const auto found = pattern_->find_last(text);
      return found ? if_any(*found) : std::nullopt;
    }
    case ExtractorKind::json_path: return follow(path_, text);
  }
  return std::nullopt;
}

void Confidence::add(const GeneratedToken& token) {
  double sum = 0;
  int64_t finite = 0;
  for (const TokenLogprob& other : token.top)
    if (std::isfinite(other.logprob)) sum -= other.logprob, ++finite;
  values_.push_back(finite > 0 ? sum / static_cast<double>(finite) : 0);
  sum_ += values_.back();
  if (values_.size() > window_) sum_ -= values_[values_.size() - window_ - 1];
  if (values_.size() < window_) return;
  const double mean = sum_ / static_cast<double>(window_);
  lowest_ = lowest_ ? std::min(*lowest_, mean) : mean;
}

double Confidence::lowest() const {
  if (lowest_) return *lowest_;
  return values_.empty() ? std::numeric_limits<double>::infinity()
                         : sum_ / static_cast<double>(values_.size());
}

double percentile(std::vector<double> values, double percent) {
  check(!values.empty(), "a percentile of nothing");
  std::ranges::sort(values);
  const auto rank = static_cast<int64_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
  return values[static_cast<size_t>(std::clamp<int64_t>(rank, 1, std::ssize(values)) - 1)];
}

std::optional<Decision> decide(const SelectionRule& rule, std::span<const Candidate> candidates) {
  check(!candidates.empty(), "nothing to choose from");
  return rule.strategy == Strategy::best_of_n ? best_of_n(rule, candidates) : vote(rule, candidates);
}

}  // namespace neutrino::chat
