// Test-time compute in one request: the `reasoning` object's strategy. Several candidates are generated on one prompt (whose keys and
// values they share), and one of them becomes the answer (chat/candidates.h says which).
//
//   "reasoning": {"strategy": "best_of_n" | "self_consistency" | "deepconf", "n": 8,
//                 "scorer": "logprob" | "check" | "vote",
//                 "check": {"type": "regex", "pattern": ...} | {"type": "json_path", "path": ..., "equals": ...} |
//                          {"type": "schema", "schema": {...}},
//                 "answer_extractor": "last_line" | {"type": "boxed" | "regex" | "json_path" | ..., "pattern": ...},
//                 "stop": {"vote_share": 0.8, "max_total_tokens": 4000, "deadline_ms": 60000},
//                 "confidence": {"window": 128, "warm_up": 4, "keep_percent": 50}}
//
// The answer says in "reasoning" what became of each candidate, with its score and its tokens; usage counts them all.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <functional>
#include <optional>

#include "base/json.h"
#include "chat/answer_check.h"
#include "chat/candidates.h"

namespace neutrino::net {
class Response;
}

namespace neutrino::server {

struct Answer;

struct TestTime {
  chat::SelectionRule rule;
  int64_t n = 1;
  chat::AnswerExtractor extractor;
  std::optional<chat::AnswerCheck> check = {};
  std::optional<int64_t> total_tokens_max = {};
  std::optional<std::chrono::milliseconds> deadline = {};
  // DeepConf: candidates that run to their end, tokens of a window, and the share of the warm-up's confidences above the threshold.
  int64_t warm_up = 0, window = 0;
  double keep_percent = 0;
};

// The keys of `reasoning` that are about test-time compute (effort and budget are reasoning_request.h's); nullopt: none asks
// for it. Throws Error{invalid_argument} with the
// path of what is wrong. May take milliseconds (a schema is compiled).
std::optional<TestTime> read_test_time(const json::object& reasoning);

std::string_view strategy_name(chat::Strategy strategy);  // as a body calls it

// The alternatives that each token's log probability must come with.
int64_t logprobs_needed(const TestTime& test_time);

// Runs the candidates, which are answer.choices (n of them, none submitted), until one is chosen; leaves that one as the only
// choice, its generation replayed in one piece, and the report in answer.selection. `submit` starts a choice; `wait` sleeps
// until something may be new. False: the client is gone.
boost::asio::awaitable<bool> choose_candidate(const TestTime& test_time, Answer& answer,
                                              const net::Response& response,
                                              const std::function<void(size_t)>& submit,
                                              const std::function<boost::asio::awaitable<void>()>& wait);

}  // namespace neutrino::server
