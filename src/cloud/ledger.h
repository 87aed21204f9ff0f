// What was used, what it costs, and what may be spent: rows. Money is in nanodollars.
//
// Each request is one row, written in the transaction that also adds it to its hour and remembers how far its gateway's journal has been
// counted: so it counts once, whoever dies. What was counted from an estimate is settled later from the replica's own log.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>

#include "base/fields.h"

namespace neutrino::cloud {

// One request. The fields of a gateway's UsageRecord (usage_journal.h), and whose journal it came from.
struct UsageRow {
  std::string id;  // unique
  std::string workspace;
  std::string gateway;
  int64_t sequence = 0;  // in the gateway's journal
  std::string request_id, endpoint, deployment, replica, key, member, model, path;
  int64_t status = 0;
  bool complete = false, exact = false;
  bool settled = false;  // nothing more will be found out about it
  int64_t started_ms = 0, queue_ms = 0, replica_ms = 0, first_token_ms = 0;
  int64_t input_tokens = 0, cached_tokens = 0, output_tokens = 0, reasoning_tokens = 0;
  int64_t price_input = 0, price_cached_input = 0, price_output = 0;  // a token, as the gateway knew them
  int64_t cost = 0;
  static constexpr auto fields() {
    using U = UsageRow;
    return std::tuple(
        field("id", &U::id, {.key = true}), field("workspace", &U::workspace), field("gateway", &U::gateway),
        field("sequence", &U::sequence), field("request_id", &U::request_id), field("endpoint", &U::endpoint),
        field("deployment", &U::deployment), field("replica", &U::replica), field("key", &U::key),
        field("member", &U::member), field("model", &U::model), field("path", &U::path),
        field("status", &U::status), field("complete", &U::complete), field("exact", &U::exact),
        field("settled", &U::settled), field("started_ms", &U::started_ms), field("queue_ms", &U::queue_ms),
        field("replica_ms", &U::replica_ms), field("first_token_ms", &U::first_token_ms),
        field("input_tokens", &U::input_tokens), field("cached_tokens", &U::cached_tokens),
        field("output_tokens", &U::output_tokens), field("reasoning_tokens", &U::reasoning_tokens),
        field("price_input", &U::price_input), field("price_cached_input", &U::price_cached_input),
        field("price_output", &U::price_output), field("cost", &U::cost));
  }
};

// The sum of an hour's requests of one key to one endpoint under one model's name.
struct UsageHour {
  std::string workspace;
  int64_t hour_ms = 0;  // when it began, Unix time
  std::string endpoint, key, member, model;
  int64_t requests = 0, failed = 0;  // failed: status 0 or 400 and above
  int64_t input_tokens = 0, cached_tokens = 0, output_tokens = 0, reasoning_tokens = 0;
  int64_t queue_ms = 0, replica_ms = 0;
  int64_t cost = 0;
  static constexpr auto fields() {
    using U = UsageHour;
    return std::tuple(
        field("workspace", &U::workspace, {.key = true}), field("hour_ms", &U::hour_ms, {.key = true}),
        field("endpoint", &U::endpoint, {.key = true}), field("key", &U::key, {.key = true}),
        field("member", &U::member, {.key = true}), field("model", &U::model, {.key = true}),
        field("requests", &U::requests), field("failed", &U::failed), field("input_tokens", &U::input_tokens),
        field("cached_tokens", &U::cached_tokens), field("output_tokens", &U::output_tokens),
        field("reasoning_tokens", &U::reasoning_tokens), field("queue_ms", &U::queue_ms),
        field("replica_ms", &U::replica_ms), field("cost", &U::cost));
  }
};

// How long a replica's process ran in an hour: what it took of a machine, used or not.
struct MachineHour {
  std::string workspace;
  int64_t hour_ms = 0;
  std::string endpoint, deployment, replica, shape;
  int64_t running_ms = 0;
  int64_t until_ms = 0;      // counted up to this moment
  int64_t memory_bytes = 0;  // that it was promised
  double cores = 0;
  int64_t cost = 0;
  static constexpr auto fields() {
    using M = MachineHour;
    return std::tuple(
        field("workspace", &M::workspace, {.key = true}), field("hour_ms", &M::hour_ms, {.key = true}),
        field("endpoint", &M::endpoint, {.key = true}), field("deployment", &M::deployment, {.key = true}),
        field("replica", &M::replica, {.key = true}), field("shape", &M::shape),
        field("running_ms", &M::running_ms), field("until_ms", &M::until_ms),
        field("memory_bytes", &M::memory_bytes), field("cores", &M::cores), field("cost", &M::cost));
  }
};

// The price book: what tokens of a model cost from a moment on. A request's cost is reckoned with the price that its gateway knew.
struct Price {
  std::string model;  // as an endpoint's deployments name it; "*": of all that have no price of their own
  int64_t input = 0, cached_input = 0, output = 0;  // nanodollars a token: $0.02 per million are 20
  int64_t etag = 0;
  static constexpr auto fields() {
    using P = Price;
    return std::tuple(field("model", &P::model, {.key = true, .immutable = true}),
                      field("input", &P::input, {.help = "nanodollars a token: 20 is $0.02 per million"}),
                      field("cached_input", &P::cached_input), field("output", &P::output),
                      field("etag", &P::etag, {.read_only = true}));
  }
};

// How much may be spent in a period, by a key, a member or the whole workspace.
struct Budget {
  std::string id;
  std::string workspace;
  std::string name;                  // unique in the workspace
  std::string subject;               // "workspace", "key" or "member"
  std::string subject_id;            // the key's or member's; empty for the workspace
  std::string unit = "nanodollars";  // or "tokens"
  int64_t amount = 0;
  bool hard = false;             // beyond it requests get a 429; else there is an event
  std::string period = "month";  // "day", "month", "total"; in UTC
  int64_t period_begin_ms = 0;   // of the period that `spent` is of
  int64_t spent = 0;
  int64_t told_percent = 0;  // the last mark (80, 100) that an event was written for in this period
  int64_t created_ms = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    using B = Budget;
    return std::tuple(
        field("id", &B::id, {.key = true, .read_only = true}),
        field("workspace", &B::workspace, {.read_only = true}), field("name", &B::name),
        field("subject", &B::subject, {.immutable = true, .help = "workspace, key or member"}),
        field("subject_id", &B::subject_id, {.immutable = true, .help = "the key's or member's id"}),
        field("unit", &B::unit, {.immutable = true, .help = "nanodollars or tokens"}),
        field("amount", &B::amount, {.help = "that may be spent in a period"}),
        field("hard", &B::hard, {.help = "refuse what goes beyond"}),
        field("period", &B::period, {.help = "day, month or total, in UTC"}),
        field("period_begin_ms", &B::period_begin_ms, {.read_only = true}),
        field("spent", &B::spent, {.read_only = true}),
        field("told_percent", &B::told_percent, {.read_only = true}),
        field("created_ms", &B::created_ms, {.read_only = true}),
        field("etag", &B::etag, {.read_only = true}));
  }
};

// How far a gateway's journal has been counted.
struct GatewayRow {
  std::string id;
  int64_t usage_sequence = 0;
  int64_t seen_ms = 0;
  static constexpr auto fields() {
    using G = GatewayRow;
    return std::tuple(field("id", &G::id, {.key = true}), field("usage_sequence", &G::usage_sequence),
                      field("seen_ms", &G::seen_ms));
  }
};

}  // namespace neutrino::cloud
