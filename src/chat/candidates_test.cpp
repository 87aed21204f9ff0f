#include "chat/candidates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace neutrino::chat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string extract(ExtractorKind kind, std::string_view text, std::string_view pattern = {}) {
  return AnswerExtractor(kind, pattern).extract(text).value_or("(none)");
}

TEST(AnswerExtractor, TakesTheAnswerOutOfAText) {
  using enum ExtractorKind;
  EXPECT_EQ(extract(whole, "  42\n"), "42");
  EXPECT_EQ(extract(whole, " \n"), "(none)");
  EXPECT_EQ(extract(last_line, "So:\n x = 3 \n\n"), "x = 3");
  EXPECT_EQ(extract(boxed, R"(first \boxed{1}, then \boxed{\frac{1}{2}}.)"), R"(\frac{1}{2})");
  EXPECT_EQ(extract(boxed, R"(\boxed{7} and an open \boxed{8)"), "7");
  EXPECT_EQ(extract(boxed, "no box"), "(none)");
  EXPECT_EQ(extract(regex, "answer: 3, no: answer: 12.", R"(answer: (\d+))"), "12");
  EXPECT_EQ(extract(regex, "a1 b2", R"([a-z]\d)"), "b2");
  EXPECT_EQ(extract(regex, "x", R"(\d)"), "(none)");
  EXPECT_EQ(extract(json_path, R"({"a":[{"b c":"x"}]})", "$.a[0]['b c']"), "x");
  EXPECT_EQ(extract(json_path, R"({"a":{"n":1.5,"z":null}})", "$.a"), R"({"n":1.5,"z":null})");
  EXPECT_EQ(extract(json_path, R"({"a":[1]})", "$.a[1]"), "(none)");
  EXPECT_EQ(extract(json_path, "not json", "$"), "(none)");
}

TEST(AnswerExtractor, RefusesPatternsThatCannotBeUsed) {
  for (const char* path : {"", "a", "$a", "$.", "$[", "$[]", "$[x]", "$['a]", "$[1", "$[99999999999]"})
    EXPECT_THROW(AnswerExtractor(ExtractorKind::json_path, path), Error) << path;
  for (const char* pattern : {"(", "a{1,2", "[z-a]", "(?=look)", "\xff"})
    EXPECT_THROW(AnswerExtractor(ExtractorKind::regex, pattern), Error) << pattern;
  try {
    AnswerExtractor(ExtractorKind::regex, "(a{500}){500}{500}");
    ADD_FAILURE() << "a pattern of millions of states was compiled";
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("too large"));
  }
}

// ---- decisions

Candidate answered(std::string answer, double mean_logprob = -1, double confidence = 1) {
  return {
      .finished = true, .answer = std::move(answer), .mean_logprob = mean_logprob, .confidence = confidence};
}

TEST(BestOfN, TakesTheMostLikelyWhenAllAreThere) {
  std::vector<Candidate> candidates = {answered("a", -2), answered("b", -0.5), {}, answered("d", -0.5)};
  EXPECT_FALSE(decide({}, candidates));
  candidates[2] = answered("c", -0.7);
  EXPECT_EQ(decide({}, candidates)->winner, 1);
}

TEST(BestOfN, TakesTheFirstThatPassesAndWaitsForThoseBeforeIt) {
  const SelectionRule rule{.has_check = true};
  std::vector<Candidate> candidates(4);
  candidates[2] = answered("c");
  candidates[2].passed = true;
  EXPECT_FALSE(decide(rule, candidates)) << "an earlier one may still pass";
  candidates[0] = candidates[1] = answered("x", -0.1);
  const auto decision = decide(rule, candidates);
  ASSERT_TRUE(decision);
  EXPECT_EQ(decision->winner, 2);
  EXPECT_EQ(decision->considered, 3);
  candidates[2].passed = false;
  candidates[3] = answered("d", -5);
  EXPECT_EQ(decide(rule, candidates)->winner, 0) << "none passes: the most likely";
}

TEST(MajorityVote, StopsWhenTheRestCannotChangeIt) {
  const SelectionRule rule{.strategy = Strategy::majority_vote};
  std::vector<Candidate> candidates(5);
  candidates[0] = answered("x", -3), candidates[1] = answered("x", -1);
  EXPECT_FALSE(decide(rule, candidates)) << "three may still agree on another answer";
  candidates[2] = answered("x", -2);
  const auto decision = decide(rule, candidates);
  ASSERT_TRUE(decision);
  EXPECT_EQ(decision->winner, 1) << "the most likely of those that gave the answer";
  EXPECT_EQ(decision->considered, 3);
}

TEST(MajorityVote, StopsAtAShareOfTheVotesButNotOfTheFirstFew) {
  const SelectionRule rule{.strategy = Strategy::majority_vote, .vote_share = 0.75};
  std::vector<Candidate> candidates(20);
  candidates[0] = candidates[1] = answered("x");
  EXPECT_FALSE(decide(rule, candidates));
  candidates[2] = answered("y"), candidates[3] = answered("x");
  EXPECT_EQ(decide(rule, candidates)->considered, 4);
}

TEST(MajorityVote, TiesGoToTheAnswerThatCameFirstAndMissingAnswersHaveNoVote) {
  const SelectionRule rule{.strategy = Strategy::majority_vote};
  std::vector<Candidate> candidates = {answered("x"), answered("y"), answered("y"), answered("x"),
                                       answered("z")};
  candidates[4].answer.reset();
  const auto decision = decide(rule, candidates);
  EXPECT_EQ(decision->votes[0].answer, "x");
  EXPECT_EQ(decision->votes.size(), 2u);
  for (Candidate& candidate : candidates) candidate.answer.reset();
  candidates[3].mean_logprob = 0;
  EXPECT_EQ(decide(rule, candidates)->winner, 3);
}

TEST(DeepConf, WeighsVotesByConfidenceAndLeavesOutWhatWasGivenUp) {
  const SelectionRule rule{.strategy = Strategy::deep_conf};
  std::vector<Candidate> candidates = {answered("x", -1, 1), answered("y", -1, 5), answered("x", -1, 1),
                                       answered("x", -1, 9)};
  candidates[3].given_up = true;
  const auto decision = decide(rule, candidates);
  EXPECT_EQ(decision->votes[0].answer, "y");
  EXPECT_EQ(decision->winner, 1);
}

// Whatever finishes first, the decision is the same: the one of all candidates, or an earlier one that agrees with it.
TEST(Decisions, DoNotDependOnTheOrderInWhichCandidatesFinish) {
  Random random(5);
  for (int round = 0; round < 2000; ++round) {
    const bool votes = random.chance(0.5);
    SelectionRule rule{.strategy = votes ? Strategy::majority_vote : Strategy::best_of_n,
                       .has_check = !votes};
    if (random.chance(0.5)) rule.vote_share = 0.6;
    std::vector<Candidate> finished(static_cast<size_t>(1 + random.below(8)));
    for (Candidate& candidate : finished) {
      candidate = answered(std::string(1, static_cast<char>('a' + random.below(3))),
                           -static_cast<double>(random.below(9)));
      candidate.passed = random.chance(0.3);
    }
    const auto run = [&] {
      std::vector<Candidate> seen(finished.size());
      std::vector<size_t> order(finished.size());
      for (size_t i = 0; i < order.size(); ++i) order[i] = i;
      for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
      for (const size_t i : order) {
        seen[i] = finished[i];
        if (const auto decision = decide(rule, seen)) return *decision;
      }
      return Decision{.winner = -1};
    };
    const Decision first = run(), second = run();
    ASSERT_GE(first.winner, 0);
    ASSERT_EQ(first.winner, second.winner);
    ASSERT_EQ(first.considered, second.considered);
  }
}

// ---- confidence

GeneratedToken token(std::vector<float> logprobs) {
  GeneratedToken result;
  for (const float logprob : logprobs) result.top.push_back({0, logprob});
  return result;
}

TEST(Confidence, IsTheLowestMeanOfAWindow) {
  Confidence confidence(2);
  EXPECT_TRUE(std::isinf(confidence.lowest()));
  confidence.add(token({-4, -6}));
  EXPECT_DOUBLE_EQ(confidence.lowest(), 5) << "of what there is";
  confidence.add(token({-1, -1}));
  EXPECT_DOUBLE_EQ(confidence.lowest(), 3);
  confidence.add(token({-2, -2}));
  EXPECT_DOUBLE_EQ(confidence.lowest(), 1.5);
  confidence.add(token({-9, -9, -INFINITY}));
  EXPECT_DOUBLE_EQ(confidence.lowest(), 1.5) << "and it stays";
}

TEST(Confidence, PercentilesAreNearestRanks) {
  EXPECT_EQ(percentile({3, 1, 2}, 0), 1);
  EXPECT_EQ(percentile({3, 1, 2}, 34), 2);
  EXPECT_EQ(percentile({3, 1, 2}, 100), 3);
  EXPECT_EQ(percentile({7}, 10), 7);
}

}  // namespace
}  // namespace neutrino::chat
