#include "server/request_json.h"

#include "server/answer_json.h"
#include "server/test_time.h"

namespace neutrino::server {
namespace {

json::value or_null(const std::optional<int64_t>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::object sampling_json(const InferenceRequest& request, const chat::SamplingParameters& sampling) {
  json::object bias;
  for (const auto& [token, amount] : sampling.logit_bias) bias[std::to_string(token)] = amount;
  json::array stop;
  for (const std::string& text : sampling.stop) stop.emplace_back(json::string_view(text));
  return {{"n", request.n},
          {"temperature", sampling.temperature},
          {"top_p", sampling.top_p},
          {"top_k", sampling.top_k},
          {"min_p", sampling.min_p},
          {"presence_penalty", sampling.presence_penalty},
          {"frequency_penalty", sampling.frequency_penalty},
          {"repetition_penalty", sampling.repetition_penalty},
          {"seed", sampling.seed ? json::value(static_cast<int64_t>(*sampling.seed)) : json::value(nullptr)},
          {"logit_bias", std::move(bias)},
          {"stop", std::move(stop)},
          {"stop_token_ids", ids_json(sampling.stop_token_ids)},
          {"include_stop_str_in_output", sampling.include_stop_in_output},
          {"ignore_eos", sampling.ignore_eos},
          {"min_tokens", sampling.min_tokens},
          {"max_tokens", sampling.max_tokens},
          {"logprobs", or_null(sampling.logprobs)},
          {"skip_special_tokens", sampling.skip_special_tokens},
          {"speculative.n_max", or_null(sampling.draft_tokens)}};
}

json::object output_json(const OutputOptions& output) {
  return {{"stream", output.stream},
          {"stream_options",
           {{"include_usage", output.include_usage}, {"continuous_usage_stats", output.continuous_usage}}},
          {"return_token_ids", output.token_ids},
          {"return_tokens_as_token_ids", output.tokens_as_ids},
          {"return_progress", output.progress},
          {"timings", output.timings},
          {"include_reasoning", output.reasoning}};
}

std::string_view kind_name(text::GrammarKind kind) {
  switch (kind) {
    case text::GrammarKind::json_schema: return "json_schema";
    case text::GrammarKind::json_object: return "json_object";
    case text::GrammarKind::regex: return "regex";
    case text::GrammarKind::choice: return "choice";
    case text::GrammarKind::lark: return "lark";
    case text::GrammarKind::gbnf: return "gbnf";
    case text::GrammarKind::structural_tag: return "structural_tag";
  }
  return "";
}

json::value constraint_json(const std::optional<text::GrammarSpec>& constraint) {
  if (!constraint) return nullptr;
  return json::object{{"type", kind_name(constraint->kind)}, {"text", valid_utf8(constraint->text)}};
}

json::value test_time_json(const TestTime* test_time) {
  if (!test_time) return nullptr;
  return json::object{{"strategy", strategy_name(test_time->rule.strategy)}, {"n", test_time->n}};
}

}  // namespace

json::object request_json(const InferenceRequest& request, const chat::SamplingParameters& sampling) {
  json::object result = output_json(request.output);
  result["sampling_params"] = sampling_json(request, sampling);
  result["structured_outputs"] = constraint_json(request.constraint);
  result["thinking_token_budget"] = or_null(request.thinking_budget);
  result["reasoning"] = test_time_json(request.test_time.get());
  result["truncate_prompt_tokens"] = or_null(request.truncate_prompt_tokens);
  result["cache_salt"] = request.cache_salt;
  result["priority"] = request.priority;
  result["timeout_ms"] = or_null(request.timeout_ms);
  return result;
}

}  // namespace neutrino::server
