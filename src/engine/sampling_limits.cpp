// Which sampling parameters are accepted.

#include <string_view>

#include "base/error.h"
#include "base/limits.h"
#include "engine/sampler.h"

namespace neutrino::engine {
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
  expect(p.draft_tokens.value_or(0) >= 0, "draft_tokens", p.draft_tokens.value_or(0), "at least 0");
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
