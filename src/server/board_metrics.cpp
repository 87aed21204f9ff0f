#include "server/board_metrics.h"

#include <algorithm>
#include <array>
#include <utility>

#include "chat/model_admin.h"

namespace neutrino::server {
namespace {

MetricLabels labels(const std::string& model_name, const MetricLabels& more = {}) {
  MetricLabels all{{"model_name", model_name}, {"engine", "0"}};
  all.insert(more.begin(), more.end());
  return all;
}

const char* const kSleep = "vllm:engine_sleep_state";
const char* const kAdapters = "vllm:lora_requests_info";
const char* const kBySource = "vllm:prompt_tokens_by_source_total";
const char* const kCachedBySource = "vllm:prompt_tokens_cached_by_source_total";
const char* const kBySourceHelp = "Prompt tokens by where their keys and values came from";

// Made as zeros where nobody makes them.
constexpr std::array kZeroCounters = {"vllm:external_prefix_cache_queries_total",
                                      "vllm:external_prefix_cache_hits_total",
                                      "vllm:mm_cache_queries_total",
                                      "vllm:mm_cache_hits_total",
                                      "vllm:corrupted_requests_total",
                                      "vllm:spec_decode_num_drafts_total",
                                      "vllm:spec_decode_num_draft_tokens_total",
                                      "vllm:spec_decode_num_accepted_tokens_total"};

void add_missing(Metrics& metrics, const std::string& model_name) {
  const std::string there = metrics.text();
  const auto missing = [&](const std::string& name) {
    return there.find("\n" + name + "{") == std::string::npos &&
           there.find("# TYPE " + name + " ") == std::string::npos;
  };
  for (const char* name : kZeroCounters)
    if (missing(name))
      metrics.counter(name, "Always zero here unless the feature is used", labels(model_name));
  const char* const by_position = "vllm:spec_decode_num_accepted_tokens_per_pos_total";
  if (missing(by_position))
    metrics.counter(by_position, "Accepted draft tokens by position",
                    labels(model_name, {{"position", "0"}}));
}

}  // namespace

BoardMetrics::BoardMetrics(Metrics& metrics, chat::ChatModel& model, const std::string& model_name)
    : metrics_(metrics),
      model_(model),
      model_name_(model_name),
      prompt_tokens_(metrics.counter("vllm:prompt_tokens_total", "Prompt tokens of admitted sequences",
                                     labels(model_name))),
      cached_tokens_(metrics.counter("vllm:prompt_tokens_cached_total",
                                     "Prompt tokens found in the prefix cache", labels(model_name))),
      computed_by_source_(
          metrics.counter(kBySource, kBySourceHelp, labels(model_name, {{"source", "local_compute"}}))),
      cached_by_source_(
          metrics.counter(kBySource, kBySourceHelp, labels(model_name, {{"source", "local_cache_hit"}}))),
      cached_alone_(metrics.counter(kCachedBySource, "Cached prompt tokens by cache",
                                    labels(model_name, {{"source", "local_cache_hit"}}))),
      waiting_capacity_(metrics.gauge("vllm:num_requests_waiting_by_reason", "Sequences in the queue, by why",
                                      labels(model_name, {{"reason", "capacity"}}))),
      gpu_cache_usage_(metrics.gauge("vllm:gpu_cache_usage_perc",
                                     "vllm:kv_cache_usage_perc under its name of before",
                                     labels(model_name))),
      awake_(metrics.gauge(kSleep, "1 for the state that the engine is in",
                           labels(model_name, {{"sleep_state", "awake"}}))),
      asleep_(metrics.gauge(kSleep, "", labels(model_name, {{"sleep_state", "discard_all"}}))),
      choices_(metrics.histogram("vllm:request_params_n", "n of a request", {1, 2, 5, 10, 20},
                                 labels(model_name))),
      tool_parses_(metrics.counter("vllm:tool_call_parser_invocations_total",
                                   "Answers that were searched for tool calls", labels(model_name))) {
  metrics.counter(kBySource, kBySourceHelp, labels(model_name, {{"source", "external_kv_transfer"}}));
  metrics.counter(kCachedBySource, "", labels(model_name, {{"source", "external_kv_transfer"}}));
  metrics.gauge("vllm:num_requests_waiting_by_reason", "", labels(model_name, {{"reason", "deferred"}}));
  metrics.gauge(kSleep, "", labels(model_name, {{"sleep_state", "weights_offloaded"}}));
  add_missing(metrics, model_name);
  scrape_ = metrics.on_scrape([this] { refresh(); });
}

BoardMetrics::~BoardMetrics() { metrics_.remove_on_scrape(scrape_); }

void BoardMetrics::request(int64_t n) { choices_.Observe(static_cast<double>(n)); }

void BoardMetrics::tool_parses(int64_t answers) { tool_parses_.Increment(static_cast<double>(answers)); }

void BoardMetrics::raise(Counter& counter, double to) {
  counter.Increment(std::max(0.0, to - counter.Value()));
}

void BoardMetrics::refresh() {
  const double cached = cached_tokens_.Value();
  raise(cached_by_source_, cached);
  raise(cached_alone_, cached);
  raise(computed_by_source_, prompt_tokens_.Value() - cached);
  const chat::ChatModelStatus status = model_.status();
  waiting_capacity_.Set(static_cast<double>(status.waiting));
  const auto used = static_cast<double>(status.kv_blocks_referenced);
  const double total = used + static_cast<double>(status.kv_blocks_cached + status.kv_blocks_free);
  gpu_cache_usage_.Set(total > 0 ? used / total : 0);
  show_sleep();
  show_adapters();
}

// What sleep gives back are keys and values.
void BoardMetrics::show_sleep() {
  const chat::ModelAdmin* admin = model_.admin();
  const bool asleep = admin && admin->sleep_state() == chat::SleepState::asleep;
  awake_.Set(asleep ? 0 : 1);
  asleep_.Set(asleep ? 1 : 0);
}

// Routers send a request to a server where its adapter is in use. They read the labels of the series with the latest time.
void BoardMetrics::show_adapters() {
  std::string waiting, running;
  const auto list = [](std::string& names, const std::string& name) {
    names += (names.empty() ? "" : ",") + name;
  };
  for (const chat::AdapterPtr& adapter : model_.adapters()) {
    if (adapter->waiting() > 0) list(waiting, adapter->name);
    if (adapter->running() > 0) list(running, adapter->name);
  }
  const json::value* limits = model_.info().metadata.if_contains("adapter_limits");
  const MetricLabels now =
      labels(model_name_, {{"max_lora", limits ? json::serialize(limits->at("count")) : "0"},
                           {"waiting_lora_adapters", waiting},
                           {"running_lora_adapters", running}});
  if (adapters_ && adapter_labels_ != now) metrics_.remove(kAdapters, *std::exchange(adapters_, nullptr));
  if (!adapters_)
    adapters_ =
        &metrics_.gauge(kAdapters, "When it was seen which adapters are in use, in Unix seconds", now);
  adapter_labels_ = now;
  adapters_->SetToCurrentTime();
}

}  // namespace neutrino::server
