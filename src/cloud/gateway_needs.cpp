// What a request needs, and whether its key, its endpoint and their budgets have it.
#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "base/random.h"
#include "cloud/gateway_headers.h"
#include "cloud/gateway_request.h"
#include "net/presented_key.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kBytesPerToken = 4;
constexpr int64_t kTemplateTokens = 256;  // that a chat template may add to a short prompt, for reservations
constexpr int64_t kOutputTokensExpected = 256;  // of an answer without a limit, as load

// One id a request of this process: random once, then counted.
std::string new_usage_id() {
  static const uint64_t process = system_entropy();
  static std::atomic<uint64_t> count{0};
  return fmt::format("u-{:016x}-{:x}", process, ++count);
}

Error busy(std::string message, std::string reason) {
  return Error(ErrorCode::resource_exhausted, std::move(message)).with_reason(std::move(reason));
}

}  // namespace

void GatewayRequest::find_endpoint(const std::string& name) {
  const std::string model = body_ ? body_->text("model") : std::string();
  const std::string& called = name.empty() ? model : name;
  if (called.empty())
    throw Error(
        ErrorCode::invalid_argument,
        "\"model\" must name an endpoint; for a path without a JSON body use /endpoints/{name}/v1/...")
        .with_reason("missing_required_parameter")
        .with_param("model");
  RouteIndex::Model found = index_->model(key_->workspace, called);
  if (!found.endpoint || !may_call(*key_, *found.endpoint, called))
    throw make_error(ErrorCode::not_found, "the model \"{:.200}\" does not exist or this key may not use it",
                     called)
        .with_reason("model_not_found")
        .with_param("model");
  if (!name.empty() &&
      !model.empty()) {  // in the endpoint that the path names, `model` may say which adapter
    const RouteIndex::Model inner = index_->model(key_->workspace, model);
    record_.model = inner.endpoint == found.endpoint ? model : called;  // no other: usage is summed up by it
    if (inner.endpoint == found.endpoint) found.is_adapter = inner.is_adapter;
  }
  is_adapter_ = found.is_adapter;
  endpoint_ = state_.endpoints.at(found.endpoint->id);
  if (record_.model.empty()) record_.model = called;
  const EndpointRoute& route = *endpoint_->route;
  if (!address_allowed(route.limits.addresses, net::peer_address(request_)))
    throw Error(ErrorCode::permission_denied, "this endpoint may not be called from there")
        .with_reason("address_not_allowed");
}

// What it will take, as far as can be told without a tokenizer.
void GatewayRequest::read_needs() {
  generates_ = request_.method == net::Method::post && is_generating(path_);
  prompt_tokens_ = static_cast<int64_t>(request_.body.size()) / kBytesPerToken + 1;
  if (!body_) return;
  wants_events_ = body_->is_true("stream");
  int64_t most = -1;
  for (const std::string_view name : {"max_tokens", "max_completion_tokens", "max_output_tokens"})
    if (const auto limit = body_->integer(name)) most = std::max(most, *limit);
  if (!generates_) return;
  const bool is_messages_or_responses = path_.ends_with("/messages") || path_.ends_with("/responses");
  const std::string_view options = body_->raw("stream_options");
  adds_usage_ =
      wants_events_ && !is_messages_or_responses && options.find("include_usage") == std::string_view::npos;
  adds_limit_ = most < 0 && !key_->budgets.empty();
  const int64_t answers = std::clamp<int64_t>(
      std::max(body_->integer("n").value_or(1), body_->integer("best_of").value_or(1)), 1, 128);
  int64_t prompts = 1;
  if (const std::string_view prompt = body_->raw("prompt"); prompt.starts_with('['))
    prompts = std::max<int64_t>(1, std::count(prompt.begin(), prompt.end(), ',') + 1);  // not fewer
  output_tokens_ =
      std::clamp<int64_t>(most < 0 ? kOutputTokensExpected : most, 0, limits::kContextTokens) * answers;
  output_max_ =
      std::clamp<int64_t>(most < 0 ? endpoint_->route->output_tokens_max : most, 0, limits::kContextTokens) *
      answers * std::min<int64_t>(prompts, limits::kPromptsPerRequest);
}

void GatewayRequest::take_limits() {
  const int64_t now = steady_ns();
  ++endpoint_->requests_started;
  endpoint_->last_request_ms = unix_ms();
  endpoint_->arrivals.add(now);
  net::RateVerdict verdict = endpoint_->rate.take_request(now);
  if (!verdict.refusal.empty()) verdict.refusal = "this endpoint's limit of requests per minute is used up";
  net::require(verdict, response_);
  take_concurrency();
  take_tokens();
  take_budgets();
}

void GatewayRequest::take_concurrency() {
  const int64_t of_key = key_->limits.concurrency, of_endpoint = endpoint_->route->limits.concurrency;
  if (of_key > 0 && key_state_->open >= of_key)
    throw busy(fmt::format("this key may have {} requests at once", of_key), "concurrency_limit_exceeded");
  if (of_endpoint > 0 && endpoint_->open >= of_endpoint)
    throw busy(fmt::format("this endpoint takes {} requests at once", of_endpoint),
               "concurrency_limit_exceeded");
  ++key_state_->open;
  ++endpoint_->open;
  key_counted_ = endpoint_counted_ = true;
}

void GatewayRequest::take_tokens() {
  const int64_t now = steady_ns();
  net::require(key_state_->rate.reserve_tokens(prompt_tokens_, output_tokens_, now, key_tokens_), response_);
  net::RateVerdict verdict =
      endpoint_->rate.reserve_tokens(prompt_tokens_, output_tokens_, now, endpoint_tokens_);
  if (!verdict.refusal.empty()) verdict.refusal = "this endpoint's limit of tokens per minute is used up";
  net::require(verdict, response_);
  for (net::Header& header : key_state_->rate.headers(now))
    response_.set_header(std::move(header.name), std::move(header.value));
}

// A token has at least one byte, so the body's size is the most that its prompt may have, with what a template adds.
void GatewayRequest::take_budgets() {
  if (key_->budgets.empty()) return;
  const TokenPrices& prices = endpoint_->route->prices;
  const int64_t input = static_cast<int64_t>(request_.body.size()) + kTemplateTokens;
  const Charge most{.tokens = input + output_max_,
                    .nanodollars = input * prices.input + output_max_ * prices.output};
  const std::string refused = state_.budgets.reserve(key_->budgets, most);
  if (!refused.empty())
    throw make_error(ErrorCode::resource_exhausted,
                     "budget {} has less left than this request may use; a smaller max_tokens may fit",
                     refused)
        .with_reason("insufficient_quota");
  reserved_ = most;
  budgets_reserved_ = true;
}

void GatewayRequest::prepare() {
  const EndpointRoute& route = *endpoint_->route;
  if (route.policy == "sticky")
    sticky_ = route.sticky_header.empty() ? key_->id : std::string(request_.header(route.sticky_header));
  if (route.policy == "prefix" && body_) {
    std::string text;
    for (const std::string_view name : {"tools", "system", "instructions", "messages", "prompt", "input"})
      text.append(body_->raw(name));
    prefix_ = prefix_hashes(fmt::format("{}/{}", route.id, is_adapter_ ? record_.model : ""), text);
  }
  record_.id = new_usage_id();
  record_.request_id = request_.id;
  record_.workspace = key_->workspace;
  record_.endpoint = route.id;
  record_.price_input = route.prices.input;
  record_.price_cached_input = route.prices.cached_input;
  record_.price_output = route.prices.output;
  record_.key = key_->id;
  record_.member = key_->member;
  record_.path = path_;
  record_.started_ms = unix_ms();
}

}  // namespace neutrino::cloud
