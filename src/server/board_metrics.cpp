#include "server/board_metrics.h"

#include <algorithm>
#include <array>

namespace neutrino::server {
namespace {

MetricLabels labels(const std::string& model_name, const MetricLabels& more = {}) {
  MetricLabels all{{"model_name", model_name}, {"engine", "0"}};
  all.insert(more.begin(), more.end());
  return all;
}

const char* const kBySource = "vllm:prompt_tokens_by_source_total";
const char* const kCachedBySource = "vllm:prompt_tokens_cached_by_source_total";
const char* const kBySourceHelp = "Prompt tokens by where their keys and values came from";

// Made as zeros where nobody makes them.
constexpr std::array kZeroCounters = {"vllm:external_prefix_cache_queries_total",
                                      "vllm:external_prefix_cache_hits_total",
                                      "vllm:mm_cache_queries_total",
                                      "vllm:mm_cache_hits_total",
                                      "vllm:corrupted_requests_total",
                                      "vllm:tool_call_parser_invocations_total",
                                      "vllm:spec_decode_num_drafts_total",
                                      "vllm:spec_decode_num_draft_tokens_total",
                                      "vllm:spec_decode_num_accepted_tokens_total"};

struct Info {
  const char* name;
  const char* help;
  MetricLabels labels;
  double value;
};

const std::vector<Info>& infos() {
  static const std::vector<Info> kInfos = {
      {"vllm:engine_sleep_state", "1 for the state that the engine is in", {{"sleep_state", "awake"}}, 1},
      {"vllm:engine_sleep_state",
       "1 for the state that the engine is in",
       {{"sleep_state", "weights_offloaded"}},
       0},
      {"vllm:engine_sleep_state",
       "1 for the state that the engine is in",
       {{"sleep_state", "discard_all"}},
       0},
      {"vllm:lora_requests_info",
       "Adapters in use",
       {{"max_lora", "0"}, {"waiting_lora_adapters", ""}, {"running_lora_adapters", ""}},
       0}};
  return kInfos;
}

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
  for (const Info& info : infos())
    if (missing(info.name))
      metrics.gauge(info.name, info.help, labels(model_name, info.labels)).Set(info.value);
}

}  // namespace

BoardMetrics::BoardMetrics(Metrics& metrics, const chat::ChatModel& model, const std::string& model_name)
    : metrics_(metrics),
      model_(model),
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
      choices_(metrics.histogram("vllm:request_params_n", "n of a request", {1, 2, 5, 10, 20},
                                 labels(model_name))) {
  metrics.counter(kBySource, kBySourceHelp, labels(model_name, {{"source", "external_kv_transfer"}}));
  metrics.counter(kCachedBySource, "", labels(model_name, {{"source", "external_kv_transfer"}}));
  metrics.gauge("vllm:num_requests_waiting_by_reason", "", labels(model_name, {{"reason", "deferred"}}));
  add_missing(metrics, model_name);
  scrape_ = metrics.on_scrape([this] { refresh(); });
}

BoardMetrics::~BoardMetrics() { metrics_.remove_on_scrape(scrape_); }

void BoardMetrics::request(int64_t n) { choices_.Observe(static_cast<double>(n)); }

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
}

}  // namespace neutrino::server
