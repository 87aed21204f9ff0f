#include "server/completion_request.h"

#include "base/limits.h"
#include "net/schema.h"
#include "server/request_fields.h"

namespace neutrino::server {
namespace {

using net::find;

constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's for this route

Prompt text_prompt(const json::string& text) {
  return {.text = std::string(text), .tokens = {}, .is_text = true};
}

Prompt token_prompt(const json::array& tokens, const chat::ChatModelInfo& info, std::string_view path) {
  return {.text = {}, .tokens = read_tokens(tokens, info, path), .is_text = false};
}

// A string, a list of strings, a list of token ids, or a list of such lists.
std::vector<Prompt> read_prompts(const json::value& value, const chat::ChatModelInfo& info) {
  if (value.is_string()) return {text_prompt(value.get_string())};
  const json::array& list = value.get_array();
  if (list.empty()) throw invalid_field("prompt must not be an empty list", "prompt");
  if (list[0].is_number()) return {token_prompt(list, info, "prompt")};
  if (static_cast<int64_t>(list.size()) > limits::kPromptsPerRequest)
    throw invalid_field(
        fmt::format("prompt must hold at most {} prompts, got {}", limits::kPromptsPerRequest, list.size()),
        "prompt");
  std::vector<Prompt> prompts;
  for (const json::value& item : list) {
    const std::string path = fmt::format("prompt[{}]", prompts.size());
    if (item.is_string())
      prompts.push_back(text_prompt(item.get_string()));
    else if (item.is_array())
      prompts.push_back(token_prompt(item.get_array(), info, path));
    else
      throw invalid_field(path + " must be a string or a list of token ids", path, "invalid_type");
  }
  return prompts;
}

// The text behind the middle that is to be filled in; an empty one asks for nothing.
void read_suffix(const json::object& body, const chat::ChatModelInfo& info, CompletionRequest& request) {
  const auto* suffix = find(body, "suffix");
  if (!suffix || suffix->get_string().empty()) return;
  if (!info.fill_in)
    throw invalid_field(
        fmt::format("suffix is not supported by model {}: it has no tokens for filling in", request.model),
        "suffix", "unsupported_parameter");
  if (request.echo) throw invalid_field("suffix and echo exclude each other", "suffix");
  request.suffix = std::string(suffix->get_string());
}

// The middle is asked for: before and after stand around it as the model was trained. Code holds no special tokens.
std::vector<int32_t> fill_in_prompt(const chat::ChatModel& model, const Prompt& prompt,
                                    const CompletionRequest& request) {
  const chat::FillInTokens& fill_in = *model.info().fill_in;
  std::vector<int32_t> tokens =
      request.add_special_tokens ? model.tokenize("", true, false) : std::vector<int32_t>();
  const auto append = [&](const std::vector<int32_t>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  tokens.push_back(fill_in.prefix);
  append(prompt.is_text ? model.tokenize(prompt.text, false, false) : prompt.tokens);
  tokens.push_back(fill_in.suffix);
  append(model.tokenize(*request.suffix, false, false));
  tokens.push_back(fill_in.middle);
  return tokens;
}

}  // namespace

namespace {

// A text completion stays as it is: its reasoning, if there is some, is not told apart.
void check_no_thinking(const json::object& body) {
  const auto* extensions = net::find(body, "nvext");
  if (extensions && net::find(extensions->get_object(), "max_thinking_tokens"))
    throw invalid_field("nvext.max_thinking_tokens is for chat completions", "nvext.max_thinking_tokens",
                        "unsupported_parameter");
}

}  // namespace

CompletionRequest parse_completion_request(std::string_view body, const ModelView& model) {
  CompletionRequest request;
  const json::object object = net::parse_body(body, kCompletionFields, request.ignored);
  request.sampling.max_tokens = kDefaultMaxTokens;
  read_sampling(object, model, request);
  check_no_thinking(object);
  request.prompts = read_prompts(object.at("prompt"), model.info);
  if (const auto* echo = find(object, "echo")) request.echo = echo->get_bool();
  read_suffix(object, model.info, request);
  if (const auto* logprobs = find(object, "logprobs")) request.sampling.logprobs = net::to_integer(*logprobs);
  if (request.echo) request.sampling.prompt_logprobs = request.sampling.logprobs;
  return request;
}

void tokenize_prompts(const chat::ChatModel& model, CompletionRequest& request) {
  for (Prompt& prompt : request.prompts)
    if (request.suffix)
      prompt.tokens = fill_in_prompt(model, prompt, request);
    else if (prompt.is_text)
      prompt.tokens = model.tokenize(prompt.text, request.add_special_tokens, true);
}

}  // namespace neutrino::server
