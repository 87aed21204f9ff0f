// A replica's answer on its way to the client, and what the request used.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "cloud/gateway_headers.h"
#include "cloud/gateway_request.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

}  // namespace

void GatewayRequest::note_first_token() {
  const int64_t now = steady_ns();
  last_event_ns_ = now;
  if (first_event_ns_ != 0) return;
  first_event_ns_ = now;
  record_.first_token_ms = std::max<int64_t>(1, (now - began_ns_) / kNsPerMs);
  endpoint_->first_token.add(static_cast<double>(now - began_ns_) / kNsPerMs, now);
}

void GatewayRequest::set_answer_headers(const net::ClientExchange& upstream) {
  for (const net::Header& header : upstream.headers())
    if (goes_downstream(header.name)) response_.set_header(header.name, header.value);
}

asio::awaitable<void> GatewayRequest::relay(net::ClientExchange& upstream) {
  std::string type(upstream.header("content-type"));
  if (type.empty()) type = "application/octet-stream";
  const bool events = type.starts_with("text/event-stream");
  AnswerMeter meter(!events       ? AnswerForm::whole
                    : adds_usage_ ? AnswerForm::events_without_usage
                                  : AnswerForm::events);
  record_.status = upstream.status();
  const bool is_small = upstream.done() && !events;  // all of it is here
  if (stream_begun_ && !events)
    throw make_error(ErrorCode::unavailable, "the replica answered with status {} when it was awake",
                     upstream.status())
        .with_reason("replica_failed");
  if (!stream_begun_) set_answer_headers(upstream);
  if (is_small) {
    const std::string_view body = co_await upstream.read();
    meter.feed(body);
    note_first_token();
    response_.send(upstream.status(), std::string(body), type);
  } else {
    response_.set_stream_status(upstream.status());
    co_await relay_stream(upstream, meter, type);
  }
  const std::string_view rest = meter.finish();
  if (!rest.empty()) co_await response_.write(rest);
  events_ = meter.events();
  record_.complete = upstream.done();
  if (meter.has_usage()) {
    record_.exact = true;
    record_.input_tokens = meter.usage().input;
    record_.cached_tokens = meter.usage().cached;
    record_.output_tokens = meter.usage().output;
    record_.reasoning_tokens = meter.usage().reasoning;
  } else {
    record_.exact = record_.complete && record_.status >= 400;
    record_.output_tokens = events_;
    if (record_.exact) record_.input_tokens = 0;  // an error has used nothing
  }
  settle();
}

// The head goes out with the first piece where that is here already, the last piece with the end.
asio::awaitable<void> GatewayRequest::relay_stream(net::ClientExchange& upstream, AnswerMeter& meter,
                                                   std::string_view type) {
  for (;;) {
    const bool begins = !std::exchange(stream_begun_, true);
    const bool waits = upstream.ready().empty() && !upstream.done();
    if (begins && waits) co_await response_.begin_stream(type);
    const std::string_view piece = co_await upstream.read();
    const std::string_view out = piece.empty() ? piece : meter.feed(piece);
    if (!piece.empty() && (meter.events() > 0 || out.size() == piece.size())) note_first_token();
    if (begins && !waits) {
      if (!out.empty()) response_.hold_next();
      co_await response_.begin_stream(type);
    }
    if (piece.empty()) co_return;
    if (out.empty()) continue;
    if (upstream.done()) response_.hold_next();
    const bool read = co_await response_.write(out);
    if (!read) upstream.cancel();
  }
}

void GatewayRequest::note_replica_time() {
  if (sent_ns_ != 0) record_.replica_ms += (steady_ns() - std::exchange(sent_ns_, 0)) / kNsPerMs;
}

// Once: what the request used is recorded, and what it held goes back.
void GatewayRequest::settle() {
  Charge used;
  int64_t sequence = 0;
  if (begun_record_) {
    begun_record_ = false;
    note_replica_time();
    if (record_.status == 0 || response_.interruption() == net::Interruption::client_gone)
      record_.status = 499;
    if (first_event_ns_ == 0 && !record_.exact) record_.output_tokens = 0;
    record_.cost = cost_of(record_);
    used = {.tokens = record_.input_tokens + record_.output_tokens, .nanodollars = record_.cost};
    if (state_.usage) sequence = state_.usage->record(record_);
    const int64_t gaps = events_ - 1;
    if (gaps > 0 && first_event_ns_ != 0)
      endpoint_->inter_token.add(
          static_cast<double>(last_event_ns_ - first_event_ns_) / kNsPerMs / static_cast<double>(gaps),
          last_event_ns_);
  }
  const int64_t now = steady_ns();
  if (const int64_t tokens = std::exchange(key_tokens_, 0))
    key_state_->rate.settle_tokens(tokens, used.tokens, now);
  if (const int64_t tokens = std::exchange(endpoint_tokens_, 0))
    endpoint_->rate.settle_tokens(tokens, used.tokens, now);
  if (std::exchange(budgets_reserved_, false))
    state_.budgets.settle(key_->budgets, reserved_, used, sequence);
}

}  // namespace neutrino::cloud
