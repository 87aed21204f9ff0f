// What the engine counts and times, under the names that vLLM's dashboards, autoscalers and gateways already read, plus our
// own where vLLM has none. All series exist from the start, so that a rate over them is never absent.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "engine/block_manager.h"
#include "engine/sequence.h"

namespace neutrino::engine {

struct EngineLimits {
  int64_t max_sequences = 0, batch_tokens = 0, context_tokens = 0, kv_blocks = 0;
  bool prefix_cache = true;
  size_t kv_groups = 1;
  int64_t draft_tokens = 0;
};

// The blocks of one group of layers, by state.
struct BlockGauges {
  Gauge &referenced, &cached, &free;
  void show(const BlockCounts& counts);
};

class EngineMetrics {
 public:
  EngineMetrics(Metrics& metrics, const std::string& model_name, const EngineLimits& limits);

  Gauge &running, &waiting, &kv_cache_usage, &state_snapshots;
  std::vector<BlockGauges> blocks;  // of each group
  Counter &prompt_tokens, &prompt_tokens_cached, &generation_tokens, &preemptions, &evictions, &steps,
      &snapshots_taken;
  Counter &prefix_queries, &prefix_hits;
  Counter &rejected_requests, &rejected_tokens, &rejected_wait, &rejected_deadline;
  Histogram &step_tokens, &time_to_first_token, &inter_token_latency;

  // A draft was checked.
  void count_draft(int64_t tokens, int64_t accepted);
  // Any thread. A sequence was let in: it ends in one of vllm:request_success_total's reasons, so that accepted = all ends once nobody
  // waits or runs.
  void accept();
  // A sequence has reached its end: counts it once, with its times.
  void finished(const Sequence& sequence, chat::FinishReason reason, int64_t now_ns);
  // Any thread. What was accepted and has not ended never will: it counts as an error, now.
  void write_off();

 private:
  bool count_end(chat::FinishReason reason);

  class Maker;
  EngineMetrics(Maker make, const EngineLimits& limits);
  static std::vector<BlockGauges> make_blocks(Maker& make, size_t groups);

  Counter &drafts_, &draft_tokens_, &accepted_tokens_;
  std::vector<Counter*> accepted_at_;  // by position in the draft
  std::mutex ends_mutex_;              // guards the two below
  int64_t open_ = 0;                   // accepted, not ended
  bool written_off_ = false;
  Counter& accepted_;
  std::array<Counter*, 4> by_reason_;  // indexed by chat::FinishReason
  Histogram &e2e_, &queue_, &prefill_, &decode_, &inference_, &time_per_output_token_;
  Histogram &request_prompt_tokens_, &request_generation_tokens_, &max_tokens_, &max_generation_tokens_;
  Histogram &prefill_computed_tokens_, &request_preemptions_;
};

}  // namespace neutrino::engine
