#include "server/inference.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <utility>

#include "base/limits.h"
#include "base/sha256.h"
#include "chat/answer_syntax.h"
#include "net/rate_limit.h"
#include "net/sse.h"
#include "server/answer_json.h"
#include "server/deadline.h"
#include "server/embedding_run.h"
#include "server/test_time.h"
#include "server/tracing.h"

namespace neutrino::server {
namespace {

using chat::FinishReason;
using chat::GenerationChunk;
using SteadyClock = std::chrono::steady_clock;

// A choice among candidates shows less of its tokens than is known of them for the choosing.
chat::SamplingParameters sampling_of(const Choice& choice, const InferenceRequest& inference) {
  chat::SamplingParameters sampling = choice.sampling;
  if (inference.test_time)
    sampling.logprobs = std::max(sampling.logprobs.value_or(0), logprobs_needed(*inference.test_time));
  return sampling;
}

void submit(Services& services, const net::Request& request, const Answer& answer, Choice& choice) {
  const InferenceRequest& inference = *answer.request;
  check(!inference.constraint || inference.grammar, "a constraint was not compiled");
  choice.generation =
      services.chat_model.generate({.id = fmt::format("{}-{}", answer.id, choice.index),
                                    .prompt = choice.prompt,
                                    .sampling = sampling_of(choice, inference),
                                    .cache_salt = salt_of(request.key_name, inference.cache_salt),
                                    .grammar = inference.grammar,
                                    .adapter = answer.adapter,
                                    .answer = inference.answer,
                                    .thinking_budget = inference.thinking_budget,
                                    .priority = inference.priority,
                                    .timeout_ms = timeout_left_ms(request, inference.timeout_ms).value_or(0),
                                    .report_progress = inference.output.progress});
}

// What makes a seed repeatable: the weights, and what is beside them.
std::string fingerprint(const Services& services, const chat::AdapterPtr& adapter) {
  const std::string& weights = services.chat_model.info().fingerprint;
  return adapter ? fmt::format("{}_{:.8}", weights, adapter->digest) : weights;
}

// Throws what a piece says about the end of its request.
void check_piece(const GenerationChunk& piece) {
  if (piece.finish_reason == FinishReason::cancelled)
    throw Error(ErrorCode::cancelled, "the request was cancelled").with_reason("request_cancelled");
  if (piece.finish_reason == FinishReason::error)
    throw piece.error ? *piece.error : Error(ErrorCode::internal, "the generation failed without an error");
}

void hide_generated(GenerationChunk& piece) {
  piece.text.clear();
  piece.pieces.clear();
  piece.tokens.clear();
  piece.stop_reason.clear();
  piece.usage.completion_tokens = 0;
  if (piece.finish_reason == FinishReason::stop) piece.finish_reason = FinishReason::length;
}

template <typename T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// Also where the answer was not taken apart the pieces say what is new.
void add_pieces(Choice& choice, GenerationChunk& chunk) {
  using Kind = chat::AnswerPiece::Kind;
  if (chunk.pieces.empty() && !chunk.text.empty()) chunk.pieces.push_back({.text = chunk.text});
  for (const chat::AnswerPiece& piece : chunk.pieces) {
    if (piece.kind == Kind::reasoning) choice.reasoning += piece.text;
    if (piece.kind == Kind::call_begin) choice.tool_calls.push_back({piece.call_id, piece.name, {}});
    if (piece.kind == Kind::call_arguments) choice.tool_calls.back().arguments += piece.text;
  }
  append(choice.pieces, chunk.pieces);
  choice.text += chunk.text;
  choice.parse_failed = choice.parse_failed || chunk.parse_failed;
}

bool all_finished(const Answer& answer) {
  return std::all_of(answer.choices.begin(), answer.choices.end(),
                     [](const Choice& choice) { return choice.finish_reason.has_value(); });
}

bool parse_failed(const Answer& answer) { return std::ranges::any_of(answer.choices, &Choice::parse_failed); }

void count_tool_parses(const Services& services, const Answer& answer) {
  const auto* const syntax = answer.request->answer.get();
  if (syntax == nullptr || syntax->calls == nullptr) return;
  services.board.tool_parses(std::ssize(answer.choices));
  Counter& failures = services.metrics.counter("neutrino_tool_parse_failures_total",
                                               "Answers with what began as a tool call and was none");
  failures.Increment(static_cast<double>(std::ranges::count_if(answer.choices, &Choice::parse_failed)));
}

// Of several candidates, where the request asks for them; false: the client is gone.
using Submit = std::function<void(size_t)>;
asio::awaitable<bool> choose(net::Response& response, Answer& answer, const Submit& submit_choice,
                             const std::function<asio::awaitable<void>()>& wait) {
  if (!answer.request->test_time) co_return true;
  co_return co_await choose_candidate(*answer.request->test_time, answer, response, submit_choice, wait);
}

asio::awaitable<void> collect(net::Response& response, Answer& answer, const AnswerFormat& format,
                              const Submit& submit_choice) {
  const auto wait = [&]() -> asio::awaitable<void> {
    co_await response.signal().wait(std::chrono::seconds(1));
  };
  if (!co_await choose(response, answer, submit_choice, wait)) co_return;
  while (!all_finished(answer)) {
    if (!still_wanted(response)) co_return;
    bool progress = false;
    for (Choice& choice : answer.choices) progress = next_piece(choice) || progress;
    if (!progress) co_await wait();
  }
  if (parse_failed(answer)) response.set_header("x-tool-parse", "failed");
  response.send(200, to_text(format.whole(answer)));
}

bool shows(const OutputOptions& output, const Choice& choice, const GenerationChunk& piece) {
  const bool details = output.token_ids || choice.sampling.logprobs;
  return !piece.pieces.empty() || !piece.prompt_tokens.empty() || (details && !piece.tokens.empty());
}

asio::awaitable<void> send_events(net::EventStream& stream, const std::vector<json::object>& events,
                                  const AnswerFormat& format) {
  for (const json::object& event : events) co_await stream.event(to_text(event), format.event_name(event));
}

// llama-server's event: a piece without text.
json::object progress_event(const Answer& answer, const Choice& choice, const chat::PromptProgress& progress,
                            const AnswerFormat& format) {
  json::object event = format.piece(answer, choice, {}).at(0);
  json::object& shown = event["prompt_progress"].emplace_object();
  shown["total"] = progress.total;
  shown["cache"] = progress.cached;
  shown["processed"] = progress.processed;
  shown["time_ms"] = progress.time_ms;
  return event;
}

asio::awaitable<void> send_piece(net::EventStream& events, const Answer& answer, const Choice& choice,
                                 const GenerationChunk& piece, const AnswerFormat& format) {
  if (piece.progress) co_await events.event(to_text(progress_event(answer, choice, *piece.progress, format)));
  if (shows(answer.request->output, choice, piece))
    co_await send_events(events, format.piece(answer, choice, piece), format);
  if (piece.finish_reason) co_await send_events(events, format.finish(answer, choice), format);
}

asio::awaitable<void> stream(net::EventStream& events, net::Response& response, Answer& answer,
                             const AnswerFormat& format, const Submit& submit_choice) {
  co_await events.begin();
  const auto wait = [&]() -> asio::awaitable<void> { co_await events.wait(); };
  if (!co_await choose(response, answer, submit_choice, wait)) co_return;
  co_await send_events(events, format.opening(answer), format);
  while (!all_finished(answer)) {
    if (!still_wanted(response)) co_return;
    bool progress = false;
    for (Choice& choice : answer.choices) {
      const auto piece = next_piece(choice);
      if (!piece) continue;
      progress = true;
      co_await send_piece(events, answer, choice, *piece, format);
    }
    if (!progress) co_await wait();
  }
  if (answer.request->output.include_usage) co_await events.event(to_text(format.usage_event(answer)));
  if (format.ends_with_done()) co_await events.event("[DONE]");
}

void cancel_all(Answer& answer, net::Response& response) {
  for (Choice& choice : answer.choices)
    if (choice.generation) choice.generation->cancel();
  response.signal().notify();
}

void log_answer(net::Response& response, const Answer& answer) {
  const chat::Usage usage = total_usage(answer);
  const chat::Timings timings = total_timings(answer);
  json::object& log = response.log;
  log["answer"] = answer.id;
  log["model"] = answer.request->model;
  log["stream"] = answer.request->output.stream;
  log["choices"] = answer.choices.size();
  log["prompt_tokens"] = usage.prompt_tokens;
  log["cached_tokens"] = usage.cached_tokens;
  log["completion_tokens"] = usage.completion_tokens;
  log["reasoning_tokens"] = usage.reasoning_tokens;
  if (parse_failed(answer)) log["tool_parse"] = "failed";
  log["queue_ms"] = std::llround(timings.queue_ms);
  log["prefill_ms"] = std::llround(timings.prefill_ms);
  log["decode_ms"] = std::llround(timings.decode_ms);
  log["finish"] = all_finished(answer) ? json::value(finish_name(answer.choices[0])) : json::value(nullptr);
}

// The log line is owed however the request ends.
class LogAtEnd {
 public:
  LogAtEnd(net::Response& response, const Answer& answer) : response_(response), answer_(answer) {}
  ~LogAtEnd() { log_answer(response_, answer_); }

 private:
  net::Response& response_;
  const Answer& answer_;
};

// What was submitted is paid for, however it ends, and is in the trace.
class AccountAtEnd {
 public:
  AccountAtEnd(net::Response& response, const net::Request& request, const Answer& answer,
               net::TokenReservation& tokens)
      : response_(response), request_(request), answer_(answer), tokens_(tokens) {}
  ~AccountAtEnd() {
    const chat::Usage usage = total_usage(answer_);
    tokens_.settle(usage.prompt_tokens + usage.completion_tokens);
    trace_answer(response_, request_, answer_, submitted_ns_);
  }

 private:
  net::Response& response_;
  const net::Request& request_;
  const Answer& answer_;
  net::TokenReservation& tokens_;
  const int64_t submitted_ns_ = SteadyClock::now().time_since_epoch() / std::chrono::nanoseconds(1);
};

int64_t tokens_at_most(const Answer& answer) {
  int64_t tokens = 0;
  for (const Choice& choice : answer.choices) tokens += choice.sampling.max_tokens;
  return tokens;
}

}  // namespace

std::optional<GenerationChunk> next_piece(Choice& choice) {
  if (choice.finish_reason) return std::nullopt;
  auto piece = choice.generation->poll();
  if (!piece) return std::nullopt;
  check_piece(*piece);
  if (choice.echo_only) hide_generated(*piece);
  add_pieces(choice, *piece);
  append(choice.tokens, piece->tokens);
  append(choice.prompt_tokens, piece->prompt_tokens);
  choice.usage = piece->usage;
  if (piece->finish_reason) {
    choice.finish_reason = piece->finish_reason;
    choice.stop_reason = piece->stop_reason;
    choice.timings = piece->timings;
    choice.generation.reset();
  }
  return piece;
}

bool still_wanted(const net::Response& response) {
  if (response.interruption() == net::Interruption::shutdown)
    throw Error(ErrorCode::unavailable, "the server shut down before the answer was complete")
        .with_reason("draining");
  return response.interruption() == net::Interruption::none;
}

std::string salt_of(const std::string& key_name, const std::string& cache_salt) {
  if (key_name.empty() && cache_salt.empty()) return {};
  return to_hex(sha256(fmt::format("{}\n{}", key_name, cache_salt)));
}

void refuse_early(const Services& services, const net::Request& request) {
  const bool has_priorities = std::ranges::any_of(
      request.route->fields, [](const net::Field& field) { return field.name == "priority"; });
  if (!has_priorities || request.body.find("\"priority\"") == std::string::npos)
    services.chat_model.check_admission();
}

void add_retry_headers(net::Response& response, const Error& error, double drain_seconds) {
  if (error.reason() == "deadline_exceeded") response.set_header("x-should-retry", "false");
  const bool of_key = error.reason() == "rate_limit_exceeded";  // which has its own time to come back
  const bool overloaded = error.code() == ErrorCode::resource_exhausted && !of_key;
  const bool passing =
      error.reason() == "draining" || error.reason() == "model_loading" || error.reason() == "sleeping";
  if (!overloaded && !passing) return;
  const double seconds = std::clamp(std::isfinite(drain_seconds) ? drain_seconds : 60.0, 1.0, 60.0);
  response.set_header("Retry-After", std::to_string(static_cast<int64_t>(std::ceil(seconds))));
  response.set_header("retry-after-ms", std::to_string(static_cast<int64_t>(std::ceil(seconds * 1000))));
  response.set_header("x-should-retry", "true");
}

void plan_choices(std::vector<Choice>& choices, const InferenceRequest& request, size_t prompt_index,
                  std::vector<int32_t> prompt, std::string prompt_text, const chat::ChatModelInfo& info) {
  chat::SamplingParameters sampling = request.sampling;
  fit_into_context(prompt, request, info, sampling);
  for (int64_t i = 0; i < request.n; ++i) {
    Choice choice;
    choice.index = static_cast<int64_t>(choices.size());
    choice.prompt_index = prompt_index;
    choice.prompt = prompt;
    choice.prompt_text = prompt_text;
    choice.sampling = sampling;
    if (sampling.seed) choice.sampling.seed = *sampling.seed + static_cast<uint64_t>(i);
    choice.echo_only = request.sampling.max_tokens == 0;
    choices.push_back(std::move(choice));
  }
}

std::vector<Choice> plan_chat(const chat::ChatModel& model, ChatRequest& chat) {
  const std::string text = model.render(chat.conversation);
  settle_answer(model.info(), text, chat);
  compile_constraint(model, chat);
  std::vector<Choice> choices;
  plan_choices(choices, chat, 0, model.tokenize(text, chat.add_special_tokens, true), {}, model.info());
  return choices;
}

asio::awaitable<void> answer_request(Services& services, const net::Request& request, net::Response& response,
                                     const InferenceRequest& inference, std::vector<Choice> choices,
                                     const AnswerFormat& format) {
  const auto start = SteadyClock::now();
  // Once for all choices: whatever is loaded under the name meanwhile.
  const chat::AdapterPtr adapter = find_model(inference.model, services.view());
  Answer answer{.id = new_answer_id(format.id_prefix()),
                .created = std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1),
                .fingerprint = fingerprint(services, adapter),
                .request = &inference,
                .adapter = adapter,
                .choices = std::move(choices)};
  const LogAtEnd log(response, answer);
  response.set_header("x-model", header_text(inference.model));
  if (!inference.ignored.empty())
    response.set_header("X-Ignored-Params", header_text(joined(inference.ignored, ",")));
  const net::Wakeups::Subscription subscription(services.wakeups, response.signal());
  net::TokenReservation tokens(request, response, total_usage(answer).prompt_tokens, tokens_at_most(answer));
  services.board.request(inference.n);
  const Submit submit_choice = [&](size_t i) { submit(services, request, answer, answer.choices[i]); };
  for (size_t i = 0; !inference.test_time && i < answer.choices.size(); ++i) submit_choice(i);
  const AccountAtEnd account(response, request, answer, tokens);
  const ActiveRequests::Listing listing(services.active, {.request_id = request.id,
                                                          .answer_id = answer.id,
                                                          .key_name = request.key_name,
                                                          .cancel = [&] { cancel_all(answer, response); }});
  const auto add_processing_time = [&] {
    response.set_header("openai-processing-ms",
                        std::to_string((SteadyClock::now() - start) / std::chrono::milliseconds(1)));
  };
  if (inference.output.stream) {
    add_processing_time();
    net::EventStream events(response, services.ping);
    co_await stream(events, response, answer, format, submit_choice);
  } else {
    co_await collect(response, answer, format, submit_choice);
    add_processing_time();
  }
  count_tool_parses(services, answer);
}

}  // namespace neutrino::server
