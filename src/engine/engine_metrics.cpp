#include "engine/engine_metrics.h"

#include "compute/batch.h"

namespace neutrino::engine {
namespace {

const HistogramBuckets kLatency = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                   30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const HistogramBuckets kFirstToken = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                      1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
// vLLM's, and three below its floor of 10 ms.
const HistogramBuckets kTokenLatency = {.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3,
                                        .4,   .5,    .75,  1,   2.5,  5,   7.5,  10, 20,  40, 80};
const HistogramBuckets kStepTokens = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
const HistogramBuckets kFew = {0, 1, 2, 5, 10, 20};

// 1, 2, 5, 10, 20, 50, ... up to the context, as vLLM cuts token counts.
HistogramBuckets one_two_five(int64_t most) {
  HistogramBuckets buckets;
  for (double power = 1;; power *= 10)
    for (const double digit : {1, 2, 5}) {
      if (digit * power > static_cast<double>(most)) return buckets;
      buckets.push_back(digit * power);
    }
}

double seconds(int64_t from_ns, int64_t to_ns) { return static_cast<double>(to_ns - from_ns) * 1e-9; }

}  // namespace

// Makes metrics with the labels that all engine series share.
class EngineMetrics::Maker {
 public:
  Maker(Metrics& metrics, const std::string& model_name)
      : metrics_(metrics), labels_{{"model_name", model_name}, {"engine", "0"}} {}
  Counter& counter(const std::string& name, const std::string& help, const MetricLabels& more = {}) {
    return metrics_.counter(name, help, with(more));
  }
  Gauge& gauge(const std::string& name, const std::string& help, const MetricLabels& more = {}) {
    return metrics_.gauge(name, help, with(more));
  }
  Histogram& histogram(const std::string& name, const std::string& help, const HistogramBuckets& buckets) {
    return metrics_.histogram(name, help, buckets, labels_);
  }

 private:
  MetricLabels with(const MetricLabels& more) const {
    MetricLabels all = labels_;
    all.insert(more.begin(), more.end());
    return all;
  }
  Metrics& metrics_;
  MetricLabels labels_;
};

// Layers with a window beside others have blocks of their own, of another size: another series.
std::vector<BlockGauges> EngineMetrics::make_blocks(Maker& make, size_t groups) {
  std::vector<BlockGauges> blocks;
  for (size_t i = 0; i < groups; ++i) {
    const auto gauge = [&](const char* state) -> Gauge& {
      return i == 0 ? make.gauge("neutrino_kv_blocks", "KV blocks by state", {{"state", state}})
                    : make.gauge("neutrino_kv_window_blocks", "KV blocks of layers with a window by state",
                                 {{"state", state}});
    };
    blocks.push_back({gauge("referenced"), gauge("cached"), gauge("free")});
  }
  return blocks;
}

void BlockGauges::show(const BlockCounts& counts) {
  referenced.Set(static_cast<double>(counts.referenced));
  cached.Set(static_cast<double>(counts.cached));
  free.Set(static_cast<double>(counts.free));
}

EngineMetrics::EngineMetrics(Metrics& metrics, const std::string& model_name, const EngineLimits& limits)
    : EngineMetrics(Maker(metrics, model_name), limits) {}

EngineMetrics::EngineMetrics(Maker make, const EngineLimits& limits)
    : running(make.gauge("vllm:num_requests_running", "Sequences in the running batch")),
      waiting(make.gauge("vllm:num_requests_waiting", "Sequences in the queue")),
      kv_cache_usage(make.gauge("vllm:kv_cache_usage_perc",
                                "Share of KV blocks referenced by sequences, 0 to 1 (of the fuller group)")),
      state_snapshots(make.gauge("neutrino_state_snapshots", "Snapshots of recurrent states that are kept")),
      blocks(make_blocks(make, limits.kv_groups)),
      prompt_tokens(make.counter("vllm:prompt_tokens_total", "Prompt tokens of admitted sequences")),
      prompt_tokens_cached(
          make.counter("vllm:prompt_tokens_cached_total", "Prompt tokens found in the prefix cache")),
      generation_tokens(make.counter("vllm:generation_tokens_total", "Generated tokens")),
      preemptions(make.counter("vllm:num_preemptions_total", "Sequences whose blocks were taken back")),
      evictions(make.counter("neutrino_kv_block_evictions_total",
                             "Cached KV blocks that were taken for something else")),
      steps(make.counter("neutrino_engine_steps_total", "Engine steps that ran a batch")),
      snapshots_taken(make.counter("neutrino_state_snapshots_taken_total",
                                   "Snapshots of recurrent states that were taken")),
      prefix_queries(
          make.counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache")),
      prefix_hits(make.counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache")),
      rejected_requests(make.counter("vllm:admission_rejections_total",
                                     "Requests refused because the queue is full",
                                     {{"reason", "max_num_queued_reqs"}})),
      rejected_tokens(make.counter("vllm:admission_rejections_total",
                                   "Requests refused because the queue is full",
                                   {{"reason", "max_num_queued_tokens"}})),
      rejected_wait(make.counter("vllm:admission_rejections_total",
                                 "Requests refused because the queue is full",
                                 {{"reason", "expected_wait"}})),
      rejected_deadline(make.counter("vllm:admission_rejections_total",
                                     "Requests refused because the queue is full", {{"reason", "deadline"}})),
      step_tokens(make.histogram("vllm:iteration_tokens_total", "Tokens per engine step", kStepTokens)),
      time_to_first_token(make.histogram("vllm:time_to_first_token_seconds",
                                         "From submission to the first token", kFirstToken)),
      inter_token_latency(make.histogram("vllm:inter_token_latency_seconds",
                                         "Between two tokens of a sequence", kTokenLatency)),
      drafts_(make.counter("vllm:spec_decode_num_drafts_total", "Drafts that were checked")),
      draft_tokens_(
          make.counter("vllm:spec_decode_num_draft_tokens_total", "Tokens of drafts that were checked")),
      accepted_tokens_(
          make.counter("vllm:spec_decode_num_accepted_tokens_total", "Tokens of drafts that were right")),
      accepted_(make.counter("neutrino_sequences_accepted_total", "Sequences that were let into the queue")),
      e2e_(make.histogram("vllm:e2e_request_latency_seconds", "From submission to the end", kLatency)),
      queue_(
          make.histogram("vllm:request_queue_time_seconds", "From submission to the first step", kLatency)),
      prefill_(make.histogram("vllm:request_prefill_time_seconds", "From the first step to the first token",
                              kLatency)),
      decode_(
          make.histogram("vllm:request_decode_time_seconds", "From the first token to the last", kLatency)),
      inference_(make.histogram("vllm:request_inference_time_seconds",
                                "From the first step to the last token", kLatency)),
      time_per_output_token_(make.histogram("vllm:request_time_per_output_token_seconds",
                                            "Decode time over the tokens after the first", kTokenLatency)),
      request_prompt_tokens_(make.histogram("vllm:request_prompt_tokens", "Prompt tokens of a request",
                                            one_two_five(limits.context_tokens))),
      request_generation_tokens_(make.histogram("vllm:request_generation_tokens",
                                                "Generated tokens of a request",
                                                one_two_five(limits.context_tokens))),
      max_tokens_(make.histogram("vllm:request_params_max_tokens", "max_tokens of a request",
                                 one_two_five(limits.context_tokens))),
      max_generation_tokens_(make.histogram("vllm:request_max_num_generation_tokens",
                                            "Most tokens generated for a request",
                                            one_two_five(limits.context_tokens))),
      prefill_computed_tokens_(make.histogram("vllm:request_prefill_kv_computed_tokens",
                                              "Prompt tokens computed, without the cached ones",
                                              one_two_five(limits.context_tokens))),
      request_preemptions_(
          make.histogram("vllm:request_num_preemptions", "How often a request was preempted", kFew)) {
  for (const auto& [reason, word] : {std::pair{chat::FinishReason::stop, "stop"},
                                     {chat::FinishReason::length, "length"},
                                     {chat::FinishReason::cancelled, "abort"},
                                     {chat::FinishReason::error, "error"}})
    by_reason_[static_cast<size_t>(reason)] = &make.counter(
        "vllm:request_success_total", "Requests that ended, by reason", {{"finished_reason", word}});
  for (int64_t position = 0; position < limits.draft_tokens; ++position)
    accepted_at_.push_back(&make.counter("vllm:spec_decode_num_accepted_tokens_per_pos_total",
                                         "Tokens of drafts that were right, by position in the draft",
                                         {{"position", std::to_string(position)}}));
  make.gauge("vllm:cache_config_info", "Settings of the KV cache",
             {{"block_size", std::to_string(compute::kBlockPositions)},
              {"num_gpu_blocks", std::to_string(limits.kv_blocks)},
              {"enable_prefix_caching", limits.prefix_cache ? "True" : "False"},
              {"prefix_caching_hash_algo", "sha256"}})
      .Set(1);
  make.gauge("neutrino_engine_max_sequences", "Most sequences that run at once")
      .Set(static_cast<double>(limits.max_sequences));
  make.gauge("neutrino_engine_batch_tokens", "Token budget of a step")
      .Set(static_cast<double>(limits.batch_tokens));
}

void EngineMetrics::count_draft(int64_t tokens, int64_t accepted) {
  drafts_.Increment();
  draft_tokens_.Increment(static_cast<double>(tokens));
  accepted_tokens_.Increment(static_cast<double>(accepted));
  for (int64_t position = 0; position < accepted; ++position)
    accepted_at_[static_cast<size_t>(position)]->Increment();
}

void EngineMetrics::accept() {
  const std::lock_guard lock(ends_mutex_);
  accepted_.Increment();
  if (written_off_)
    by_reason_[static_cast<size_t>(chat::FinishReason::error)]->Increment();
  else
    ++open_;
}

bool EngineMetrics::count_end(chat::FinishReason reason) {
  const std::lock_guard lock(ends_mutex_);
  if (written_off_) return false;
  --open_;
  by_reason_[static_cast<size_t>(reason)]->Increment();
  return true;
}

void EngineMetrics::write_off() {
  const std::lock_guard lock(ends_mutex_);
  by_reason_[static_cast<size_t>(chat::FinishReason::error)]->Increment(static_cast<double>(open_));
  open_ = 0;
  written_off_ = true;
}

void EngineMetrics::finished(const Sequence& sequence, chat::FinishReason reason, int64_t now_ns) {
  if (!count_end(reason)) return;
  e2e_.Observe(seconds(sequence.submitted_ns, now_ns));
  request_prompt_tokens_.Observe(static_cast<double>(sequence.prompt_tokens));
  request_generation_tokens_.Observe(static_cast<double>(sequence.generated()));
  max_generation_tokens_.Observe(static_cast<double>(sequence.generated()));
  max_tokens_.Observe(static_cast<double>(sequence.sampling.max_tokens));
  request_preemptions_.Observe(static_cast<double>(sequence.preemptions));
  if (sequence.queued) return;
  queue_.Observe(seconds(sequence.submitted_ns, sequence.scheduled_ns));
  if (sequence.generated() == 0) return;
  prefill_computed_tokens_.Observe(static_cast<double>(sequence.prompt_tokens - sequence.cached_tokens));
  prefill_.Observe(seconds(sequence.scheduled_ns, sequence.first_token_ns));
  decode_.Observe(seconds(sequence.first_token_ns, sequence.last_token_ns));
  inference_.Observe(seconds(sequence.scheduled_ns, sequence.last_token_ns));
  if (sequence.generated() > 1)
    time_per_output_token_.Observe(seconds(sequence.first_token_ns, sequence.last_token_ns) /
                                   static_cast<double>(sequence.generated() - 1));
}

}  // namespace neutrino::engine
