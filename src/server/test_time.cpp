#include "server/test_time.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "base/limits.h"
#include "server/answer_json.h"
#include "server/inference.h"

namespace neutrino::server {
namespace {

using chat::Candidate, chat::FinishReason, chat::GenerationChunk, chat::Strategy;
using SteadyClock = std::chrono::steady_clock;

// A generation that is over: all of it in one piece.
class ReplayedGeneration final : public chat::Generation {
 public:
  explicit ReplayedGeneration(GenerationChunk chunk) : chunk_(std::move(chunk)) {}
  std::optional<GenerationChunk> poll() override { return std::exchange(chunk_, std::nullopt); }
  GenerationChunk wait() override {
    check(chunk_.has_value(), "wait() after the last piece");
    return std::move(*poll());
  }
  void cancel() override {}

 private:
  std::optional<GenerationChunk> chunk_;
};

// A choice while it is one of several.
struct Runner {
  Candidate candidate;
  chat::Confidence confidence;
  double logprob = 0;  // of all tokens
  bool started = false;
};

class Race {
 public:
  Race(const TestTime& test_time, Answer& answer)
      : test_time_(test_time),
        answer_(answer),
        runners_(answer.choices.size(), Runner{{}, chat::Confidence(test_time.window)}) {
    if (test_time.deadline) deadline_ = SteadyClock::now() + *test_time.deadline;
  }

  // Starts what may run now: with DeepConf the rest waits for the warm-up.
  void start(const std::function<void(size_t)>& submit) {
    const size_t now = warmed_up() ? runners_.size() : static_cast<size_t>(test_time_.warm_up);
    for (size_t i = 0; i < now; ++i) {
      if (runners_[i].started) continue;
      runners_[i].started = true;
      submit(i);
    }
  }

  // Takes what is new; true: there was something.
  bool poll() {
    bool progress = false;
    for (size_t i = 0; i < runners_.size(); ++i) {
      Choice& choice = answer_.choices[i];
      if (!runners_[i].started || runners_[i].candidate.finished) continue;
      const auto chunk = next_piece(choice);
      if (!chunk) continue;
      progress = true;
      take(runners_[i], *chunk);
      if (choice.finish_reason)
        finish(i);
      else if (runners_[i].confidence.lowest() < threshold_ && full_window(choice))
        give_up(i);
    }
    if (!progress || threshold_set_ || !warmed_up()) return end_when_spent() || progress;
    set_threshold();
    return true;
  }

  std::optional<chat::Decision> decide() const {
    std::vector<Candidate> candidates;
    for (const Runner& runner : runners_) candidates.push_back(runner.candidate);
    return chat::decide(test_time_.rule, candidates);
  }

  // The winner becomes the only choice, to be read once more from its beginning.
  void settle(const chat::Decision& decision) {
    answer_.selection = report(decision);
    for (size_t i = 0; i < runners_.size(); ++i) {
      if (answer_.choices[i].generation) answer_.choices[i].generation->cancel();
      if (static_cast<int64_t>(i) == decision.winner) continue;
      answer_.other_usage.completion_tokens += answer_.choices[i].usage.completion_tokens;
      answer_.other_usage.reasoning_tokens += answer_.choices[i].usage.reasoning_tokens;
    }
    Choice winner = std::move(answer_.choices[static_cast<size_t>(decision.winner)]);
    answer_.choices.clear();
    answer_.choices.push_back(replayed(std::move(winner)));
  }

 private:
  bool warmed_up() const {
    return std::all_of(runners_.begin(), runners_.begin() + test_time_.warm_up,
                       [](const Runner& runner) { return runner.candidate.finished; });
  }
  bool full_window(const Choice& choice) const { return std::ssize(choice.tokens) >= test_time_.window; }

  void take(Runner& runner, const GenerationChunk& chunk) {
    for (const chat::GeneratedToken& token : chunk.tokens) {
      runner.logprob += token.logprob;
      if (test_time_.window > 0) runner.confidence.add(token);
    }
    tokens_ += std::ssize(chunk.tokens);
  }

  void finish(size_t i) {
    Runner& runner = runners_[i];
    const Choice& choice = answer_.choices[i];
    Candidate& candidate = runner.candidate;
    candidate.finished = true;
    candidate.text = choice.text;
    candidate.answer = test_time_.extractor.extract(choice.text);
    candidate.passed = test_time_.check && test_time_.check->passes(choice.text);
    candidate.tokens = std::ssize(choice.tokens);
    candidate.mean_logprob =
        candidate.tokens > 0 ? runner.logprob / static_cast<double>(candidate.tokens) : -INFINITY;
    candidate.confidence = test_time_.window > 0 ? runner.confidence.lowest() : 0;
  }

  // Ends it here, as if it had reached its length.
  void cut(size_t i) {
    Choice& choice = answer_.choices[i];
    if (choice.generation) choice.generation->cancel();
    choice.generation.reset();
    choice.finish_reason = FinishReason::length;
    finish(i);
  }
  void give_up(size_t i) {
    cut(i);
    runners_[i].candidate.given_up = true;
  }

  void set_threshold() {
    threshold_set_ = true;
    if (test_time_.rule.strategy != Strategy::deep_conf) return;
    std::vector<double> confidences;
    for (int64_t i = 0; i < test_time_.warm_up; ++i)
      confidences.push_back(runners_[static_cast<size_t>(i)].candidate.confidence);
    threshold_ = chat::percentile(std::move(confidences), 100 - test_time_.keep_percent);
  }

  // Out of time or tokens: what there is must do. True: it ended something.
  bool end_when_spent() {
    const bool late = deadline_ && SteadyClock::now() >= *deadline_;
    const bool spent = test_time_.total_tokens_max && tokens_ >= *test_time_.total_tokens_max;
    if (!late && !spent) return false;
    spent_ = true;
    for (size_t i = 0; i < runners_.size(); ++i)
      if (!runners_[i].candidate.finished) cut(i);
    return true;
  }

  static Choice replayed(Choice choice) {
    GenerationChunk chunk{.text = std::exchange(choice.text, {}),
                          .pieces = std::exchange(choice.pieces, {}),
                          .tokens = std::exchange(choice.tokens, {}),
                          .finish_reason = std::exchange(choice.finish_reason, std::nullopt),
                          .stop_reason = std::exchange(choice.stop_reason, {}),
                          .parse_failed = std::exchange(choice.parse_failed, false),
                          .usage = choice.usage,
                          .timings = choice.timings,
                          .prompt_tokens = {}};
    if (choice.sampling.logprobs)
      for (chat::GeneratedToken& token : chunk.tokens)
        if (std::ssize(token.top) > *choice.sampling.logprobs)
          token.top.resize(static_cast<size_t>(*choice.sampling.logprobs));
    choice.index = 0;
    choice.reasoning.clear();
    choice.tool_calls.clear();
    choice.generation = std::make_unique<ReplayedGeneration>(std::move(chunk));
    return choice;
  }

  json::object report(const chat::Decision& decision) const {
    json::array candidates;
    for (size_t i = 0; i < runners_.size(); ++i) candidates.push_back(report(i));
    json::object result{{"strategy", strategy_name(test_time_.rule.strategy)},
                        {"winner", decision.winner},
                        {"considered", decision.considered}};
    result["ended_early"] = decision.considered < std::ssize(runners_) || spent_;
    if (test_time_.rule.strategy != Strategy::best_of_n) {
      json::array votes;
      for (const chat::VoteCount& vote : decision.votes)
        votes.push_back(json::object{{"answer", vote.answer}, {"weight", vote.weight}});
      result["votes"] = std::move(votes);
    }
    result["candidates"] = std::move(candidates);
    return result;
  }

  json::object report(size_t i) const {
    const Candidate& candidate = runners_[i].candidate;
    const Choice& choice = answer_.choices[i];
    json::object entry{{"index", i}, {"completion_tokens", std::ssize(choice.tokens)}};
    entry["finish_reason"] =
        candidate.finished && !candidate.given_up ? json::value(finish_name(choice)) : json::value(nullptr);
    entry["mean_logprob"] = candidate.finished && candidate.tokens > 0 ? json::value(candidate.mean_logprob)
                                                                       : json::value(nullptr);
    if (test_time_.check)
      entry["passed"] = candidate.finished ? json::value(candidate.passed) : json::value(nullptr);
    if (test_time_.rule.strategy != Strategy::best_of_n)
      entry["answer"] = candidate.answer ? json::value(*candidate.answer) : json::value(nullptr);
    if (test_time_.rule.strategy == Strategy::deep_conf) {
      entry["confidence"] = candidate.finished && std::isfinite(candidate.confidence)
                                ? json::value(candidate.confidence)
                                : json::value(nullptr);
      entry["given_up"] = candidate.given_up;
    }
    return entry;
  }

  const TestTime& test_time_;
  Answer& answer_;
  std::vector<Runner> runners_;
  double threshold_ = -INFINITY;
  bool threshold_set_ = false;
  bool spent_ = false;
  int64_t tokens_ = 0;
  std::optional<SteadyClock::time_point> deadline_;
};

}  // namespace

std::string_view strategy_name(Strategy strategy) {
  switch (strategy) {
    case Strategy::best_of_n: return "best_of_n";
    case Strategy::majority_vote: return "self_consistency";
    case Strategy::deep_conf: return "deepconf";
  }
  return "";
}

int64_t logprobs_needed(const TestTime& test_time) { return test_time.window > 0 ? limits::kLogprobs : 0; }

boost::asio::awaitable<bool> choose_candidate(const TestTime& test_time, Answer& answer,
                                              const net::Response& response,
                                              const std::function<void(size_t)>& submit,
                                              const std::function<boost::asio::awaitable<void>()>& wait) {
  Race race(test_time, answer);
  for (;;) {
    race.start(submit);
    if (!still_wanted(response)) co_return false;
    const bool progress = race.poll();
    if (const auto decision = race.decide()) {
      race.settle(*decision);
      co_return true;
    }
    if (!progress) co_await wait();
  }
}

}  // namespace neutrino::server
