// What chat and text completions have in common once JSON has ended: whom to ask, how to sample, what to send back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/chat_model.h"
#include "text/constraints.h"

namespace neutrino::server {

// Everything that the checks need to know about the server.
struct ModelView {
  const chat::ChatModelInfo& info;
  const std::vector<std::string>& served_names;  // the first is the default one
  const chat::ChatModel* adapters = nullptr;     // whose adapters are models, too; null: there are none
};

inline constexpr int64_t kAsManyAsFit = -1;  // max_tokens that nobody gave

struct OutputOptions {
  bool stream = false;
  bool include_usage = false;  // stream_options
  bool continuous_usage = false;
  bool token_ids = false;      // return_token_ids
  bool tokens_as_ids = false;  // return_tokens_as_token_ids: "token_id:17" in place of token texts
  bool timings = false;
  bool reasoning = true;  // include_reasoning: is it shown?
  bool progress = false;  // return_progress: events while the prompt is computed
};

struct TestTime;  // test_time.h

struct InferenceRequest {
  std::string model;                  // as the client called it
  chat::SamplingParameters sampling;  // max_tokens: kAsManyAsFit, or 0 for an echo alone
  int64_t n = 1;
  bool add_special_tokens = true;
  std::optional<int64_t> truncate_prompt_tokens;  // keep the last so many; -1: as many as fit
  std::string cache_salt;
  std::optional<text::GrammarSpec> constraint = {};        // what the body asks of the answer's form
  std::shared_ptr<const text::Grammar> grammar = nullptr;  // of compile_constraint()
  std::shared_ptr<const chat::AnswerSyntax> answer =
      nullptr;  // how the answer is taken apart; absent: it is not
  std::optional<int64_t> thinking_budget = {};
  int64_t priority = 0;               // lower values are served first
  std::optional<int64_t> timeout_ms;  // of the whole request; X-Request-Timeout may be shorter
  std::shared_ptr<const TestTime> test_time = nullptr;  // then `n` candidates become one choice
  OutputOptions output;
  std::vector<std::string> ignored;  // fields that have no effect
};

// The shared fields of a body that net::parse_body() has checked; request.sampling.max_tokens holds the route's default.
// Throws Error{invalid_argument, not_found}.
void read_sampling(const json::object& body, const ModelView& model, InferenceRequest& request);

// The adapter of that name; null: it is one of the model's own. Throws as check_model_name().
chat::AdapterPtr find_model(std::string_view name, const ModelView& model);

// Throws Error{not_found, reason model_not_found} unless the server has a model of that name.
void check_model_name(std::string_view name, const ModelView& model);

// Compiles the constraint, where there is one. Takes time: not on an io thread. Throws as chat::ChatModel::compile_grammar().
void compile_constraint(const chat::ChatModel& model, InferenceRequest& request);

// Cuts and checks a prompt, and settles how many tokens may be generated (at least 1). Throws reason context_length_exceeded.
void fit_into_context(std::vector<int32_t>& prompt, const InferenceRequest& request,
                      const chat::ChatModelInfo& info, chat::SamplingParameters& sampling);

// Token ids of a JSON array, each in the vocabulary.
std::vector<int32_t> read_tokens(const json::array& array, const chat::ChatModelInfo& info,
                                 std::string_view path);

std::string joined(const std::vector<std::string>& words, std::string_view separator);

Error invalid_field(std::string message, std::string param, std::string_view reason = "invalid_value");

}  // namespace neutrino::server
