// The engine: many sequences, one model, one step after the other. The front door of this folder.
//
// submit() validates a request on the caller's thread and puts it into a bounded mailbox. The engine thread owns everything
// behind it (scheduler, block tables, KV cache, samplers) and runs step() over and over: take what is new, drop what is no
// longer wanted, plan a batch, run the model, sample, hand the tokens out. Results go into each sequence's TokenStream.
//
// An Error in a step fails the sequences of that batch, and the rest go on. Any other exception is a bug: the engine is dead,
// every sequence gets an error at once, and `on_death` is told, so that the process can end loudly.
//
// In steady state step() does not allocate. Tests and simulations call step() themselves instead of start().
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "chat/chat_model.h"
#include "chat/model_admin.h"
#include "compute/backend.h"
#include "compute/paged_kv_cache.h"
#include "engine/admission.h"
#include "engine/batch_sampler.h"
#include "engine/engine_metrics.h"
#include "engine/guide.h"
#include "engine/kv_plan.h"
#include "engine/prefix_file.h"
#include "engine/prompt_pace.h"
#include "engine/scheduler.h"
#include "engine/speculation.h"
#include "models/model.h"

namespace neutrino::engine {

struct EngineOptions {
  int64_t max_sequences = 0;   // 0 here and below: the default of base/limits.h
  int64_t batch_tokens = 0;    // token budget of a step
  int64_t context_tokens = 0;  // 0: the model's
  int64_t kv_blocks = 0;       // of positions (kv_plan.h); 0: enough for max_sequences quarter-full contexts
  compute::KvType kv_type = compute::KvType::bf16;
  PrefixCache prefix_cache = PrefixCache::on;
  SpeculationOptions speculation = {};
  // Of a recurrent model, beside one state a sequence; absent: kSnapshotsPerSequence times max_sequences. Only with a prefix
  // cache.
  std::optional<int64_t> state_snapshots = {};
  int64_t queued_requests_max = 0;
  int64_t queued_tokens_max = 0;  // prompt tokens in the queue; a lone request may exceed it
  std::optional<double> queue_wait_seconds_max = {};  // admission.h; 0: any wait; absent: by what is measured
  int64_t vocab_size = 0;  // ids that the tokenizer has; 0: the model's. Padding behind them is never sampled
  std::vector<int32_t> end_tokens = {};  // of the model; a request's ignore_eos turns them off
  std::string model_name = "model";      // label of the metrics
  std::string fingerprint = {};          // of the weights: part of every block's name
  int64_t adapter_rank_max = 0;          // of a request's adapter; 0: none has one
};

inline constexpr int64_t kSnapshotsPerSequence = 2;  // one of its prompt, one of what it generates

struct EngineStatus {
  bool dead = false;
  std::string death_message = {};
  int64_t running = 0, waiting = 0;
  std::array<BlockCounts, compute::kKvGroups> blocks = {};  // of each group; see Engine::kv_plan()
  int64_t since_progress_ns = 0;   // since the loop last went round; waiting for work counts as progress
  double queue_drain_seconds = 0;  // estimate: when would a request that came now start?
};

class Engine {
 public:
  // All references outlive the engine. The backend and its scratch belong to the engine from here on.
  Engine(const models::Model& model, compute::Backend& backend, EngineOptions options, Metrics& metrics,
         const Clock& clock);
  ~Engine();

  void start();  // starts the engine thread
  void stop();   // ends it; what still runs is cancelled

  // Any thread. Throws Error{invalid_argument} with the parameter's name, or reason "context_length_exceeded";
  // Error{resource_exhausted, "queue_full" or "deadline_unreachable"}; Error{unavailable, "engine_dead"}.
  SequencePtr submit(chat::GenerationRequest request);
  void check_admission() const;  // any thread: throws what submit() would for the shortest request; cheap
  // Any thread: the sequence's blocks are free within one step. Without effect on a finished one.
  void end(Sequence& sequence, EndRequest why);
  // Any thread: the engine thread hangs. Nothing is accepted any more, and what was accepted counts as ended by an error; streams
  // are the server's to tell.
  void declare_dead(const std::string& why);

  // Runs `work` on the engine thread between two steps and returns when that is done; what it throws arrives here. Any thread.
  // Throws Error{unavailable} if the engine ends first.
  void call(std::function<void()> work);

  // Sleep (chat/model_admin.h). Any thread.
  chat::SleepState sleep_state() const { return sleep_state_; }
  void fall_asleep();
  int64_t
  sleep();  // bytes of keys, values and states that went back. Throws Error{failed_precondition} while something runs
  void wake_up();

  // Prefixes on disk (prefix_file.h). The blocks of `tokens` that are cached under the salt, from the first one on.
  PrefixFile copy_prefix(const std::vector<int32_t>& tokens, const std::string& cache_salt);
  // Throws Error{failed_precondition} for another model's. Returns the tokens that are cached now.
  int64_t adopt_prefix(const PrefixFile& prefix, const std::string& cache_salt);

  EngineStatus status() const;                               // any thread
  const EngineOptions& options() const { return options_; }  // with the defaults filled in
  const KvPlan& kv_plan() const { return kv_plan_; }
  int64_t kv_bytes() const { return cache_->bytes(); }
  void set_wake(
      std::function<void()> wake);  // called on the engine thread after a step that handed something out
  void set_on_death(std::function<void()> on_death);  // called on the engine thread, once

  // One pass of the loop; false: there was nothing to compute. The engine thread, or a test that has not called start().
  bool step();
  const Scheduler& scheduler() const { return scheduler_; }  // like step()
  // Like step(). The blocks of one group.
  const BlockManager& blocks(size_t group = 0) const { return blocks_.pool(group); }
  const StateSlots& states() const { return states_; }             // like step()
  const Speculation& speculation() const { return speculation_; }  // like step()

 private:
  void run();
  void check_fits(const chat::GenerationRequest& request) const;
  void leave_queue(Sequence& sequence);

  void run_calls();
  void drop_calls();
  void check_awake() const;
  void check_movable() const;
  compute::PagedKvCache& paged_cache();
  void accept_new_sequences();
  void end_unwanted_sequences();
  void end_late(Sequence& sequence);
  void compute(const Plan& plan);
  void copy_states(std::span<const StateCopy> copies);
  void deliver(const Plan& plan, const compute::Tensor& logits);
  bool sample_round(const Plan& plan, const compute::Tensor& logits, int64_t round);
  void take_sample(const PlannedOutput& output, const Sample& sample);
  void finish_draft(Sequence& sequence);
  SampleRequest sample_request(const PlannedOutput& output, std::span<const float> logits) const;
  void deliver_sample(Sequence& sequence, const Sample& sample);
  void report_progress(Sequence& sequence);
  void deliver_token(Sequence& sequence, const Sample& sample);
  void fail_plan(const Plan& plan, const Error& error);
  void finish(Sequence& sequence, chat::FinishReason reason, const Error* error = nullptr);
  void remove_finished();
  void finish_everything(chat::FinishReason reason, const Error* error);
  void die(const char* what);
  void publish();
  void show_blocks();
  void wake();

  const models::Model& model_;
  compute::Backend& backend_;
  const EngineOptions options_;
  const KvPlan kv_plan_;
  const Clock& clock_;
  Metrics& registry_;
  EngineMetrics metrics_;
  int64_t scrape_ = 0;  // our refresher in the registry

  // Engine thread.
  SequenceBlocks blocks_;
  StateSlots states_;
  std::unique_ptr<compute::KvCache> cache_;
  Scheduler scheduler_;
  PromptPace pace_;
  Speculation speculation_;
  BatchSampler sampler_;
  std::vector<SampleRequest> sample_requests_;         // of a round of the plan's outputs
  std::vector<const PlannedOutput*> sampled_outputs_;  // these outputs
  std::vector<Sequence*> finished_;                    // in this step, to be removed at its end
  GuideWorker guides_;                                 // fills masks while the model computes
  int64_t now_ns_ = 0;
  bool handed_out_ = false;
  struct Published {
    int64_t preemptions = 0, evictions = 0, snapshots = 0;
    int64_t admitted_tokens = 0, cached_tokens = 0;
  } published_;  // what the counters have been told

  // Any thread.
  Admission admission_;
  Mailbox<SequencePtr> mailbox_;
  std::atomic<int64_t> running_{0}, waiting_{0};
  mutable std::mutex block_counts_mutex_;
  std::array<BlockCounts, compute::kKvGroups> block_counts_;  // of one moment
  std::atomic<int64_t> progress_ns_{0};
  std::atomic<bool> dead_{false}, stopping_{false}, idle_{false};
  std::atomic<chat::SleepState> sleep_state_{chat::SleepState::awake};
  std::mutex calls_mutex_;                         // guards the one below
  std::vector<std::packaged_task<void()>> calls_;  // to be run between two steps
  std::atomic<bool> has_calls_{false};
  mutable std::mutex callbacks_mutex_;  // guards the three below
  std::function<void()> wake_, on_death_;
  std::string death_message_;
  std::thread thread_;
};

}  // namespace neutrino::engine
