#include "server/inference_request.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "base/limits.h"
#include "net/schema.h"
#include "server/constraint_fields.h"
#include "server/nested_keys.h"

namespace neutrino::server {
namespace {

using net::find;
using net::to_integer;

void read(const json::object& body, std::string_view name, bool& value) {
  if (const auto* field = find(body, name)) value = field->get_bool();
}
void read(const json::object& body, std::string_view name, double& value) {
  if (const auto* field = find(body, name)) value = field->to_number<double>();
}
void read(const json::object& body, std::string_view name, int64_t& value) {
  if (const auto* field = find(body, name)) value = to_integer(*field);
}

void check_stop_string(const json::value& value, const std::string& path) {
  if (!value.is_string()) throw invalid_field(path + " must be a string", path, "invalid_type");
  const auto size = static_cast<int64_t>(value.get_string().size());
  if (size == 0 || size > limits::kStopStringBytes)
    throw invalid_field(fmt::format("{} must have 1-{} bytes, got {}", path, limits::kStopStringBytes, size),
                        path);
}

std::vector<std::string> read_stop(const json::value& value) {
  std::vector<std::string> stop;
  if (value.is_string()) {
    check_stop_string(value, "stop");
    stop.emplace_back(value.get_string());
    return stop;
  }
  const json::array& list = value.get_array();
  if (static_cast<int64_t>(list.size()) > limits::kStopStrings)
    throw invalid_field(
        fmt::format("stop must hold at most {} strings, got {}", limits::kStopStrings, list.size()), "stop");
  for (const json::value& item : list) {
    check_stop_string(item, fmt::format("stop[{}]", stop.size()));
    stop.emplace_back(item.get_string());
  }
  return stop;
}

std::vector<std::pair<int32_t, float>> read_logit_bias(const json::object& object,
                                                       const chat::ChatModelInfo& info) {
  if (static_cast<int64_t>(object.size()) > limits::kLogitBias)
    throw invalid_field(
        fmt::format("logit_bias must hold at most {} tokens, got {}", limits::kLogitBias, object.size()),
        "logit_bias");
  std::vector<std::pair<int32_t, float>> bias;
  for (const auto& [key, value] : object) {
    const std::string path = fmt::format("logit_bias.{:.40}", std::string_view(key));
    int32_t token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token < 0 || token >= info.vocab_size)
      throw invalid_field(fmt::format("{} must be a token id of 0-{}", path, info.vocab_size - 1), path);
    const double amount = value.is_number() ? value.to_number<double>() : NAN;
    if (!(amount >= -100 && amount <= 100))
      throw invalid_field(path + " must be a number of -100 to 100", path);
    bias.emplace_back(token, static_cast<float>(amount));
  }
  return bias;
}

void read_limits(const json::object& body, InferenceRequest& request) {
  chat::SamplingParameters& sampling = request.sampling;
  const auto* old_name = find(body, "max_tokens");
  const auto* new_name = find(body, "max_completion_tokens");
  if (old_name && new_name && to_integer(*old_name) != to_integer(*new_name))
    throw invalid_field(
        fmt::format("max_tokens ({}) and max_completion_tokens ({}) must be equal when both are given",
                    to_integer(*old_name), to_integer(*new_name)),
        "max_completion_tokens");
  if (const auto* given = new_name ? new_name : old_name) {
    sampling.max_tokens = to_integer(*given);
    const bool echo = find(body, "echo") && find(body, "echo")->is_bool() && find(body, "echo")->get_bool();
    if (sampling.max_tokens < 1 && !echo)
      throw invalid_field("max_tokens must be at least 1 (0 only with echo), got 0", "max_tokens");
  }
  read(body, "min_tokens", sampling.min_tokens);
}

void read_output(const json::object& body, OutputOptions& output) {
  read(body, "stream", output.stream);
  read(body, "return_token_ids", output.token_ids);
  read(body, "return_tokens_as_token_ids", output.tokens_as_ids);
  read(body, "timings", output.timings);
  read(body, "return_progress", output.progress);
  if (output.progress && !output.stream)
    throw invalid_field("return_progress needs stream: true", "return_progress");
  const auto* options = find(body, "stream_options");
  if (!options) return;
  if (!output.stream) throw invalid_field("stream_options needs stream: true", "stream_options");
  for (const auto& [key, value] : options->get_object()) {
    const std::string path = fmt::format("stream_options.{:.40}", std::string_view(key));
    const bool usage = key == "include_usage", continuous = key == "continuous_usage_stats";
    if (!usage && !continuous && key != "include_obfuscation")
      throw invalid_field(path + " is not supported by this server", path, "unsupported_parameter");
    if (value.is_null()) continue;
    if (!value.is_bool()) throw invalid_field(path + " must be of type boolean", path, "invalid_type");
    if (usage) output.include_usage = value.get_bool();
    if (continuous) output.continuous_usage = value.get_bool();
  }
}

}  // namespace

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& word : words)
    text.append(text.empty() ? std::string_view() : separator).append(word);
  return text;
}

Error invalid_field(std::string message, std::string param, std::string_view reason) {
  return Error(ErrorCode::invalid_argument, std::move(message))
      .with_reason(std::string(reason))
      .with_param(std::move(param));
}

chat::AdapterPtr find_model(std::string_view name, const ModelView& model) {
  if (std::find(model.served_names.begin(), model.served_names.end(), name) != model.served_names.end())
    return nullptr;
  if (model.adapters)
    if (chat::AdapterPtr adapter = model.adapters->find_adapter(name)) return adapter;
  std::vector<std::string> names = model.served_names;
  if (model.adapters)
    for (const chat::AdapterPtr& adapter : model.adapters->adapters()) names.push_back(adapter->name);
  throw make_error(ErrorCode::not_found, "the model \"{:.100}\" does not exist; this server has: {}", name,
                   joined(names, ", "))
      .with_reason("model_not_found")
      .with_param("model");
}

void check_model_name(std::string_view name, const ModelView& model) { find_model(name, model); }

std::vector<int32_t> read_tokens(const json::array& array, const chat::ChatModelInfo& info,
                                 std::string_view path) {
  std::vector<int32_t> tokens;
  tokens.reserve(array.size());
  for (const json::value& value : array) {
    const bool whole =
        value.is_int64() || (value.is_double() && std::floor(value.get_double()) == value.get_double() &&
                             std::abs(value.get_double()) < 1e9);
    const int64_t id = whole ? to_integer(value) : -1;
    if (id < 0 || id >= info.vocab_size) {
      const std::string item = fmt::format("{}[{}]", path, tokens.size());
      throw invalid_field(
          fmt::format("{} must be a token id of 0-{}, got {:.40}", item, info.vocab_size - 1, to_text(value)),
          item);
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  return tokens;
}

void read_sampling(const json::object& body, const ModelView& model, InferenceRequest& request) {
  request.model = body.at("model").get_string();
  check_model_name(request.model, model);
  if (model.info.embedding_size > 0)
    throw invalid_field(
        fmt::format("model {} makes embeddings and no text; use /v1/embeddings", request.model), "model",
        "not_a_text_model");
  if (model.info.reranker)
    throw invalid_field(
        fmt::format("model {} is a reranker and makes no text; use /v1/rerank", request.model), "model",
        "not_a_text_model");
  chat::SamplingParameters& sampling = request.sampling;
  const int64_t max_tokens = sampling.max_tokens;
  sampling = model.info.defaults;
  sampling.max_tokens = max_tokens;
  read(body, "temperature", sampling.temperature);
  read(body, "top_p", sampling.top_p);
  read(body, "top_k", sampling.top_k);
  sampling.top_k = std::max<int64_t>(sampling.top_k, 0);
  read(body, "min_p", sampling.min_p);
  read(body, "presence_penalty", sampling.presence_penalty);
  read(body, "frequency_penalty", sampling.frequency_penalty);
  read(body, "repetition_penalty", sampling.repetition_penalty);
  read(body, "include_stop_str_in_output", sampling.include_stop_in_output);
  read(body, "ignore_eos", sampling.ignore_eos);
  read(body, "skip_special_tokens", sampling.skip_special_tokens);
  read(body, "n", request.n);
  read(body, "add_special_tokens", request.add_special_tokens);
  if (const auto* seed = find(body, "seed")) sampling.seed = static_cast<uint64_t>(to_integer(*seed));
  if (const auto* stop = find(body, "stop")) sampling.stop = read_stop(*stop);
  if (const auto* bias = find(body, "logit_bias"))
    sampling.logit_bias = read_logit_bias(bias->get_object(), model.info);
  if (const auto* ids = find(body, "stop_token_ids"))
    sampling.stop_token_ids = read_tokens(ids->get_array(), model.info, "stop_token_ids");
  if (static_cast<int64_t>(sampling.stop_token_ids.size()) > limits::kStopTokenIds)
    throw invalid_field(fmt::format("stop_token_ids must hold at most {} ids, got {}", limits::kStopTokenIds,
                                    sampling.stop_token_ids.size()),
                        "stop_token_ids");
  if (const auto* cut = find(body, "truncate_prompt_tokens"))
    request.truncate_prompt_tokens = to_integer(*cut);
  if (request.truncate_prompt_tokens == 0)
    throw invalid_field("truncate_prompt_tokens must be -1 or at least 1, got 0", "truncate_prompt_tokens");
  if (const auto* salt = find(body, "cache_salt")) request.cache_salt = salt->get_string();
  if (const auto* draft = find(body, "speculative.n_max")) sampling.draft_tokens = to_integer(*draft);
  request.constraint = read_constraint(body);
  note_unread_keys(body, kChatKeys, request.ignored);
  read(body, "priority", request.priority);
  if (const auto* timeout = find(body, "timeout_ms")) request.timeout_ms = to_integer(*timeout);
  read_limits(body, request);
  read_output(body, request.output);
}

void compile_constraint(const chat::ChatModel& model, InferenceRequest& request) {
  if (request.constraint) request.grammar = model.compile_grammar(*request.constraint);
}

void fit_into_context(std::vector<int32_t>& prompt, const InferenceRequest& request,
                      const chat::ChatModelInfo& info, chat::SamplingParameters& sampling) {
  const int64_t context = info.context_tokens;
  const int64_t wanted = std::max<int64_t>(sampling.max_tokens, 1);
  if (request.truncate_prompt_tokens) {
    const int64_t keep = *request.truncate_prompt_tokens > 0 ? *request.truncate_prompt_tokens
                                                             : std::max<int64_t>(context - wanted, 1);
    if (static_cast<int64_t>(prompt.size()) > keep) prompt.erase(prompt.begin(), prompt.end() - keep);
  }
  const auto size = static_cast<int64_t>(prompt.size());
  if (size == 0) throw invalid_field("the prompt has no tokens; at least one is needed", "prompt");
  if (size >= context || wanted > context - size)
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format(
            "the model's context is {} tokens, but {} were asked for: {} in the prompt and {} to generate",
            context, checked_add(size, wanted).value_or(std::numeric_limits<int64_t>::max()), size, wanted))
        .with_reason("context_length_exceeded")
        .with_param("max_tokens");
  sampling.max_tokens = sampling.max_tokens == kAsManyAsFit ? context - size : wanted;
  if (sampling.min_tokens > sampling.max_tokens)
    throw invalid_field(fmt::format("min_tokens ({}) must be at most max_tokens ({})", sampling.min_tokens,
                                    sampling.max_tokens),
                        "min_tokens");
}

}  // namespace neutrino::server
