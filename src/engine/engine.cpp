#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"

namespace neutrino::engine {
namespace {

EngineOptions with_defaults(EngineOptions options, const models::Model& model) {
  const auto fill = [](int64_t& value, int64_t fallback) { value = value > 0 ? value : fallback; };
  fill(options.max_sequences, limits::kSequencesDefault);
  fill(options.batch_tokens, limits::kBatchTokensDefault);
  fill(options.context_tokens, model.context());
  options.context_tokens = std::min(options.context_tokens, model.context());
  fill(options.vocab_size, model.config().vocab_size);
  options.vocab_size = std::min(options.vocab_size, model.config().vocab_size);
  const int64_t context_blocks = ceil_div(options.context_tokens, compute::kBlockPositions);
  fill(options.kv_blocks, std::max(context_blocks, options.max_sequences * context_blocks / 4));
  const bool snapshots = model.config().recurrent && options.prefix_cache == PrefixCache::on;
  options.state_snapshots =
      snapshots ? options.state_snapshots.value_or(kSnapshotsPerSequence * options.max_sequences) : 0;
  if (const int64_t draft = options.speculation.draft_tokens; draft < 0 || draft > kDraftTokensMax)
    throw make_error(ErrorCode::invalid_argument, "a draft must have 0 to {} tokens, got {}", kDraftTokensMax,
                     draft);
  if (options.speculation.draft_tokens > 0 && model.config().recurrent)
    throw make_error(
        ErrorCode::invalid_argument,
        "speculation is not possible with {}: its recurrent state cannot be cut back to the tokens "
        "that were right",
        model.config().architecture);
  fill(options.queued_requests_max, limits::kQueuedPerSequence * options.max_sequences);
  fill(options.queued_tokens_max, limits::kQueuedTokensPerBatchToken * options.batch_tokens);
  return options;
}

AdmissionOptions admission_options(const EngineOptions& options) {
  return {options.max_sequences, options.queued_requests_max, options.queued_tokens_max,
          options.queue_wait_seconds_max};
}

SchedulerOptions scheduler_options(const EngineOptions& options) {
  return {options.max_sequences, options.batch_tokens, options.queued_requests_max};
}

StateSlots make_state_slots(const EngineOptions& options, const models::Model& model) {
  return StateSlots(model.config().recurrent ? options.max_sequences : 0, *options.state_snapshots,
                    options.kv_blocks);
}

KvUse kv_use(const EngineOptions& options) {
  return {options.context_tokens, options.max_sequences, options.batch_tokens};
}

EngineLimits engine_limits(const EngineOptions& options, size_t kv_groups) {
  return {options.max_sequences,
          options.batch_tokens,
          options.context_tokens,
          options.kv_blocks,
          options.prefix_cache == PrefixCache::on,
          kv_groups,
          options.speculation.draft_tokens};
}

DraftModelLimits draft_limits(const EngineOptions& options, const KvPlan& plan) {
  if (options.speculation.draft_model != nullptr && plan.groups()[0].window > 0)
    throw Error(ErrorCode::invalid_argument,
                "a draft model is not possible with a model of which every layer has a window: its blocks do "
                "not stay");
  return {options.max_sequences, options.batch_tokens, options.kv_blocks,
          options.vocab_size,    options.kv_type,      options.prefix_cache == PrefixCache::on};
}

Error dead_error() {
  return Error(ErrorCode::unavailable, "the engine has failed").with_reason("engine_dead");
}

Error grammar_error(const Guide& guide) {
  return Error(ErrorCode::invalid_argument, guide.error()).with_reason("grammar_dead_end");
}

Error sample_error(const Sequence& sequence, SampleStatus status) {
  if (status == SampleStatus::not_finite)
    return Error(ErrorCode::internal, "the model's logits are not finite");
  if (sequence.guide) return grammar_error(*sequence.guide);
  return Error(ErrorCode::internal, "the token mask leaves no token to choose");
}

}  // namespace

Engine::Engine(const models::Model& model, compute::Backend& backend, EngineOptions options, Metrics& metrics,
               const Clock& clock)
    : model_(model),
      backend_(backend),
      options_(with_defaults(std::move(options), model)),
      kv_plan_(model, options_.kv_type, backend.arithmetic(), kv_use(options_)),
      clock_(clock),
      registry_(metrics),
      metrics_(metrics, options_.model_name, engine_limits(options_, kv_plan_.groups().size())),
      blocks_(kv_plan_, options_.kv_blocks, options_.prefix_cache),
      states_(make_state_slots(options_, model)),
      cache_(backend.make_kv_cache(kv_plan_.shape(model, options_.kv_blocks, states_.slots()))),
      scheduler_(scheduler_options(options_), blocks_, states_),
      pace_(options_.batch_tokens),
      speculation_(options_.speculation, draft_limits(options_, kv_plan_), clock),
      sampler_(options_.vocab_size, Scheduler::output_rows_max(scheduler_options(options_)), backend),
      guides_(options_.max_sequences),
      admission_(admission_options(options_), metrics_, clock),
      mailbox_(static_cast<size_t>(options_.queued_requests_max)) {
  const int64_t outputs = Scheduler::output_rows_max(scheduler_options(options_));
  backend.reserve(model.scratch_bytes(options_.batch_tokens, outputs) +
                  (options_.adapter_rank_max > 0
                       ? backend.adapter_scratch_bytes(options_.batch_tokens, options_.adapter_rank_max)
                       : 0));
  sample_requests_.reserve(static_cast<size_t>(outputs));
  sampled_outputs_.reserve(static_cast<size_t>(outputs));
  finished_.reserve(static_cast<size_t>(options_.max_sequences * 2 + options_.queued_requests_max));
  if (DraftModel* const draft = speculation_.model())
    scheduler_.set_fill_drafts([draft](std::span<Sequence* const> sequences) { draft->fill(sequences); });
  progress_ns_ = clock.now_ns();
  publish();
  scrape_ = registry_.on_scrape([this] { show_blocks(); });
}

Engine::~Engine() {
  stop();
  registry_.remove_on_scrape(scrape_);
}

void Engine::start() {
  thread_ = std::thread([this] { run(); });
}

void Engine::stop() {
  stopping_ = true;
  mailbox_.close();
  if (thread_.joinable()) thread_.join();
  drop_calls();
  finish_everything(chat::FinishReason::cancelled, nullptr);
}

void Engine::run() {
  while (!stopping_ && !dead_) {
    if (!step()) {
      idle_ = true;
      mailbox_.wait_for(std::chrono::seconds(1));
      idle_ = false;
    }
    progress_ns_ = clock_.now_ns();
  }
}

void Engine::declare_dead(const std::string& why) {
  spdlog::critical("engine declared dead reason=\"{}\"", why);
  {
    const std::lock_guard lock(callbacks_mutex_);
    death_message_ = why;
  }
  dead_ = true;
  mailbox_.close();
  metrics_.write_off();
}

// ---- any thread

SequencePtr Engine::submit(chat::GenerationRequest request) {
  check_awake();
  validate(request.sampling, options_.vocab_size);
  check_fits(request);
  const int64_t prompt_tokens = std::ssize(request.prompt);
  const Sha256Digest root = prefix_root(request.cache_salt, options_.fingerprint,
                                        request.adapter ? std::string_view(request.adapter->digest) : "");
  const int64_t priority = request.priority;
  if (dead_) throw dead_error();
  admission_.reserve(priority, prompt_tokens, request.timeout_ms);
  SequencePtr sequence;
  PushResult pushed = PushResult::closed;
  try {
    fault_point("engine_submit");
    sequence = std::make_shared<Sequence>(std::move(request), options_.end_tokens, root, blocks_.groups(),
                                          options_.vocab_size);
    sequence->submitted_ns = clock_.now_ns();
    speculation_.prepare(*sequence);
    if (sequence->timeout_ms > 0)
      sequence->deadline_ns = sequence->submitted_ns + sequence->timeout_ms * 1'000'000;
    Sha256 hash;
    const int64_t full_blocks = prompt_tokens / compute::kBlockPositions;
    if (full_blocks > 0 && options_.prefix_cache == PrefixCache::on)
      sequence->block_name(full_blocks - 1, hash);
    pushed = mailbox_.push(sequence);
  } catch (...) {
    admission_.release(priority, prompt_tokens);
    throw;
  }
  if (pushed == PushResult::accepted) {
    metrics_.accept();
    return sequence;
  }
  admission_.release(priority, prompt_tokens);
  check(pushed == PushResult::closed, "the engine's mailbox is smaller than its queue");
  throw dead_ ? dead_error()
              : Error(ErrorCode::unavailable, "the engine is stopping").with_reason("draining");
}

void Engine::check_fits(const chat::GenerationRequest& request) const {
  check(!request.adapter || request.adapter->rank <= options_.adapter_rank_max,
        "an adapter's rank is within what the engine's scratch was made for");
  const int64_t vocab_size = options_.vocab_size;
  if (request.prompt.empty())
    throw Error(ErrorCode::invalid_argument, "the prompt must have at least one token, got none")
        .with_param("prompt");
  for (const int32_t token : request.prompt)
    if (token < 0 || token >= vocab_size)
      throw make_error(ErrorCode::invalid_argument, "prompt token ids must be 0 to {}, got {}",
                       vocab_size - 1, token)
          .with_param("prompt");
  const int64_t prompt_tokens = std::ssize(request.prompt), max_tokens = request.sampling.max_tokens;
  const int64_t capacity = std::min(options_.context_tokens, kv_plan_.tokens_max(options_.kv_blocks));
  if (prompt_tokens > capacity || max_tokens > capacity - prompt_tokens)
    throw make_error(ErrorCode::invalid_argument,
                     "prompt and max_tokens must fit the context of {} tokens{}, got {} + {} tokens",
                     capacity, capacity < options_.context_tokens ? " (all of the KV memory)" : "",
                     prompt_tokens, max_tokens)
        .with_reason("context_length_exceeded")
        .with_param("max_tokens");
}

void Engine::check_admission() const {
  if (dead_) throw dead_error();
  admission_.check_now();
}

void Engine::end(Sequence& sequence, EndRequest why) {
  EndRequest none = EndRequest::none;
  sequence.end_request.compare_exchange_strong(none, why);
}

EngineStatus Engine::status() const {
  EngineStatus status;
  status.dead = dead_;
  if (status.dead) {
    const std::lock_guard lock(callbacks_mutex_);
    status.death_message = death_message_;
  }
  status.running = running_;
  status.waiting = std::max(waiting_.load(), admission_.queued());
  {
    const std::lock_guard lock(block_counts_mutex_);
    status.blocks = block_counts_;
  }
  status.since_progress_ns = idle_ ? 0 : clock_.now_ns() - progress_ns_;
  status.queue_drain_seconds = admission_.expected_wait_seconds();
  return status;
}

void Engine::set_wake(std::function<void()> wake) {
  const std::lock_guard lock(callbacks_mutex_);
  wake_ = std::move(wake);
}

void Engine::set_on_death(std::function<void()> on_death) {
  const std::lock_guard lock(callbacks_mutex_);
  on_death_ = std::move(on_death);
}

// ---- engine thread

bool Engine::step() {
  if (dead_) return false;
  try {
    now_ns_ = clock_.now_ns();
    run_calls();
    accept_new_sequences();
    end_unwanted_sequences();
    speculation_.propose(scheduler_.running());
    const Plan& plan = scheduler_.plan(now_ns_, pace_.rows());
    const bool work = !plan.empty();
    if (work) compute(plan);
    remove_finished();
    publish();
    if (handed_out_) wake();
    return work;
  } catch (const std::exception& bug) {
    die(bug.what());
  } catch (...) {
    die("an exception of unknown type");
  }
  return false;
}

void Engine::accept_new_sequences() {
  mailbox_.drain([this](SequencePtr sequence) {
    Sequence& added = *sequence;
    scheduler_.add(std::move(sequence));
    if (sleep_state_ != chat::SleepState::asleep) return;  // else it came just as the model fell asleep
    const Error error = Error(ErrorCode::unavailable, "the model is asleep").with_reason("sleeping");
    finish(added, chat::FinishReason::error, &error);
  });
  remove_finished();
}

void Engine::end_unwanted_sequences() {
  for (const auto sequences : {scheduler_.running(), scheduler_.waiting()})
    for (const SequencePtr& sequence : sequences) {
      const EndRequest why = sequence->end_request.load(std::memory_order_relaxed);
      if (why == EndRequest::none && sequence->deadline_ns <= now_ns_) end_late(*sequence);
      if (why == EndRequest::cancelled) finish(*sequence, chat::FinishReason::cancelled);
      if (why == EndRequest::stopped) finish(*sequence, chat::FinishReason::stop);
    }
  remove_finished();
}

void Engine::end_late(Sequence& sequence) {
  const Error error = make_error(ErrorCode::deadline_exceeded,
                                 "the request took longer than its timeout of {} ms", sequence.timeout_ms)
                          .with_reason("deadline_exceeded");
  finish(sequence, chat::FinishReason::error, &error);
}

// An Error ends this batch's sequences; what is wrong with one row of logits ends that row's sequence alone.
void Engine::compute(const Plan& plan) {
  try {
    fault_point("engine_step");
    copy_states(plan.state_copies);
    for (const auto [group, from, to] : plan.block_copies)
      cache_->copy_block(static_cast<int64_t>(group), from, to);
    const compute::Tensor logits = model_.forward(backend_, plan.batch(), *cache_);
    const int64_t start_ns = std::exchange(now_ns_, clock_.now_ns());
    pace_.observe(plan.prompt_rows, now_ns_ - start_ns);
    admission_.saw_step({.prompt_rows = plan.prompt_rows,
                         .decoding_rows = std::ssize(plan.tokens) - plan.prompt_rows,
                         .seconds = static_cast<double>(now_ns_ - start_ns) * 1e-9});
    deliver(plan, logits);
    if (plan.prompt_rows == 0) speculation_.observe(std::ssize(plan.tokens), clock_.now_ns() - start_ns);
  } catch (const Error& error) {
    fail_plan(plan, error);
    return;
  }
  metrics_.steps.Increment();
  metrics_.step_tokens.Observe(static_cast<double>(plan.tokens.size()));
}

void Engine::copy_states(std::span<const StateCopy> copies) {
  for (const auto [from, to] : copies)
    if (from == kNoState)
      cache_->clear_state(to);
    else
      cache_->copy_state(from, to);
}

SampleRequest Engine::sample_request(const PlannedOutput& output, std::span<const float> logits) const {
  Sequence& sequence = *output.sequence;
  if (!output.samples)
    return {.logits = logits,
            .given = sequence.tokens[static_cast<size_t>(output.position) + 1],
            .top = sequence.prompt_top(output.position)};
  const chat::SamplingParameters& parameters = sequence.sampling;
  const Guide* const guide = sequence.guide.get();
  const bool too_short =
      sequence.generated() < parameters.min_tokens && !(guide != nullptr && guide->only_ends());
  return {
      .logits = logits,
      .parameters = &parameters,
      .seed = sequence.seed,
      .output_position = sequence.generated(),
      .counts = sequence.counts ? &*sequence.counts : nullptr,
      .masked_tokens = too_short ? std::span<const int32_t>(sequence.end_tokens) : std::span<const int32_t>(),
      .allowed = guide != nullptr ? guide->allowed() : nullptr,
      .bias = guide != nullptr ? std::pair{guide->bias().token, guide->bias().amount}
                               : std::pair<int32_t, float>{},
      .logprob = parameters.logprobs.has_value(),
      .top = sequence.stream.next_top()};
}

// Row by row of each sequence: what a row's sample depends on, and whether it is wanted at all, is what the one before it gave.
void Engine::deliver(const Plan& plan, const compute::Tensor& logits) {
  guides_.finish();
  fault_point("engine_sample");
  for (Sequence* sequence : plan.sequences)
    if (sequence->report_progress && sequence->generated() == 0) report_progress(*sequence);
  for (int64_t round = 0; sample_round(plan, logits, round); ++round) {
  }
  for (Sequence* sequence : plan.sequences)
    if (sequence->draft.planned > 0) finish_draft(*sequence);
  copy_states(scheduler_.mark_computed());
  for (Sequence* sequence : plan.sequences)  // asked for no token at all: only the prompt was wanted
    if (sequence->uncomputed() == 0 && !sequence->stream.finished())
      finish(*sequence, chat::FinishReason::length);
  guides_.begin();
}

// The outputs behind so many tokens of their drafts, all of which have been accepted. False: there are none.
bool Engine::sample_round(const Plan& plan, const compute::Tensor& logits, int64_t round) {
  sample_requests_.clear();
  sampled_outputs_.clear();
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    const PlannedOutput& output = plan.outputs[i];
    if (output.draft != round || output.sequence->draft.accepted < round) continue;
    if (output.sequence->stream.finished()) continue;
    sampled_outputs_.push_back(&output);
    sample_requests_.push_back(sample_request(
        output, {logits.row(static_cast<int64_t>(i)), static_cast<size_t>(options_.vocab_size)}));
  }
  if (sample_requests_.empty()) return false;
  const std::span<const Sample> samples = sampler_.sample(sample_requests_);
  for (size_t i = 0; i < samples.size(); ++i) take_sample(*sampled_outputs_[i], samples[i]);
  return true;
}

void Engine::take_sample(const PlannedOutput& output, const Sample& sample) {
  Sequence& sequence = *output.sequence;
  if (sequence.stream.finished()) return;  // one of its rows was wrong
  if (sample.status != SampleStatus::ok) {
    const Error error = sample_error(sequence, sample.status);
    sequence.planned_rows = 0;
    finish(sequence, chat::FinishReason::error, &error);
  } else if (output.samples) {
    speculation_.compare(sequence, sample.token);
    deliver_sample(sequence, sample);
  } else {
    sequence.prompt_logprobs[static_cast<size_t>(output.position) + 1] = {sample.token, sample.logprob};
    sequence.prompt_logprobs_done = output.position + 1;
  }
}

void Engine::finish_draft(Sequence& sequence) {
  const Draft& draft = sequence.draft;
  speculation_.learn(sequence);
  metrics_.count_draft(draft.planned, draft.accepted);
  if (sequence.planned_rows > 0) sequence.planned_rows -= draft.rejected();
}

// The token that was chosen, and those that its grammar forces behind it.
void Engine::deliver_sample(Sequence& sequence, const Sample& sample) {
  deliver_token(sequence, sample);
  Guide* const guide = sequence.guide.get();
  if (guide == nullptr || sequence.stream.finished()) return;
  for (const int32_t token : guide->advance(sample.token)) {
    deliver_token(sequence, {.token = token});
    if (sequence.stream.finished()) return;
  }
  if (guide->failed()) {
    const Error error = grammar_error(*guide);
    finish(sequence, chat::FinishReason::error, &error);
  } else if (guide->ended()) {
    finish(sequence, chat::FinishReason::stop);
  } else {
    guides_.add(*guide);
  }
}

void Engine::report_progress(Sequence& sequence) {
  sequence.processed_ns = now_ns_;
  sequence.prompt_processed = std::min(sequence.computed + sequence.planned_rows, sequence.prompt_tokens);
  sequence.stream.announce();
  handed_out_ = true;
}

void Engine::deliver_token(Sequence& sequence, const Sample& sample) {
  if (sequence.generated() == 0) {
    sequence.first_token_ns = now_ns_;
    metrics_.time_to_first_token.Observe(static_cast<double>(now_ns_ - sequence.submitted_ns) * 1e-9);
    admission_.saw_first_token(static_cast<double>(now_ns_ - sequence.scheduled_ns) * 1e-9);
  } else {
    metrics_.inter_token_latency.Observe(static_cast<double>(now_ns_ - sequence.last_token_ns) * 1e-9);
  }
  sequence.last_token_ns = now_ns_;
  sequence.tokens.push_back(sample.token);
  if (sequence.counts) sequence.counts->add_generated(sample.token);
  metrics_.generation_tokens.Increment();
  sequence.stream.push({sample.token, sample.logprob});
  handed_out_ = true;
  if (sequence.is_end_token(sample.token))
    finish(sequence, chat::FinishReason::stop);
  else if (sequence.generated() == sequence.sampling.max_tokens)
    finish(sequence, chat::FinishReason::length);
}

void Engine::fail_plan(const Plan& plan, const Error& error) {
  spdlog::error("engine step failed sequences={} error=\"{}\"", plan.sequences.size(), error.message());
  for (Sequence* sequence : plan.sequences)
    if (!sequence->stream.finished()) finish(*sequence, chat::FinishReason::error, &error);
}

void Engine::finish(Sequence& sequence, chat::FinishReason reason, const Error* error) {
  const int64_t now_ns = clock_.now_ns();
  metrics_.finished(sequence, reason, now_ns);
  if (!sequence.queued)
    admission_.saw_end(sequence.generated(), static_cast<double>(now_ns - sequence.scheduled_ns) * 1e-9);
  sequence.stream.finish(reason, error);
  finished_.push_back(&sequence);
  handed_out_ = true;
}

// Its place in the queue is free: it was scheduled once, or has ended.
void Engine::leave_queue(Sequence& sequence) {
  if (std::exchange(sequence.holds_place, false))
    admission_.release(sequence.priority, sequence.prompt_tokens);
}

void Engine::remove_finished() {
  if (!finished_.empty()) guides_.finish();  // one of theirs may be on the worker
  for (Sequence* sequence : finished_) {
    leave_queue(*sequence);
    scheduler_.remove(*sequence);
  }
  finished_.clear();
}

// Leaves the scheduler as it is: after a bug nobody knows in what state.
void Engine::finish_everything(chat::FinishReason reason, const Error* error) {
  const auto end = [&](const SequencePtr& sequence) {
    if (sequence->stream.finished()) return;
    metrics_.finished(*sequence, reason, clock_.now_ns());
    sequence->stream.finish(reason, error);
  };
  std::ranges::for_each(scheduler_.running(), end);
  std::ranges::for_each(scheduler_.waiting(), end);
  mailbox_.drain(end);
}

void Engine::die(const char* what) {
  spdlog::critical("engine died error=\"{}\"", what);
  {
    const std::lock_guard lock(callbacks_mutex_);
    death_message_ = what;
  }
  dead_ = true;
  mailbox_.close();
  const Error error = Error(ErrorCode::internal, "the engine has failed").with_reason("engine_dead");
  finish_everything(chat::FinishReason::error, &error);
  drop_calls();
  wake();
  std::function<void()> on_death;
  {
    const std::lock_guard lock(callbacks_mutex_);
    on_death = on_death_;
  }
  if (on_death) on_death();
}

// Tells the other threads and the metrics how things stand.
void Engine::publish() {
  const auto tell = [](Counter& counter, int64_t& told, int64_t value) {
    if (value > told) counter.Increment(static_cast<double>(value - told));
    told = value;
  };
  const int64_t admitted_tokens = scheduler_.admitted_tokens();
  for (const SequencePtr& sequence : scheduler_.running()) leave_queue(*sequence);
  admission_.show(scheduler_.running(), scheduler_.short_of_blocks());
  if (blocks_.keeps_names())
    metrics_.prefix_queries.Increment(static_cast<double>(admitted_tokens - published_.admitted_tokens));
  tell(metrics_.prompt_tokens, published_.admitted_tokens, admitted_tokens);
  metrics_.prefix_hits.Increment(static_cast<double>(scheduler_.cached_tokens() - published_.cached_tokens));
  tell(metrics_.prompt_tokens_cached, published_.cached_tokens, scheduler_.cached_tokens());
  tell(metrics_.preemptions, published_.preemptions, scheduler_.preemptions());
  tell(metrics_.evictions, published_.evictions, blocks_.evictions());
  tell(metrics_.snapshots_taken, published_.snapshots, states_.snapshots_taken());
  metrics_.state_snapshots.Set(static_cast<double>(states_.counts().snapshots));

  std::array<BlockCounts, compute::kKvGroups> blocks;
  double usage = 0;
  for (size_t i = 0; i < blocks_.groups(); ++i) {
    blocks[i] = blocks_.pool(i).counts();
    usage = std::max(
        usage, static_cast<double>(blocks[i].referenced) / static_cast<double>(blocks_.pool(i).total()));
  }
  running_ = std::ssize(scheduler_.running());
  waiting_ = std::ssize(scheduler_.waiting());
  {
    const std::lock_guard lock(block_counts_mutex_);
    block_counts_ = blocks;
  }
  progress_ns_ = clock_.now_ns();

  metrics_.running.Set(static_cast<double>(running_));
  metrics_.waiting.Set(static_cast<double>(waiting_));
  metrics_.kv_cache_usage.Set(usage);
}

// On each scrape, from one moment: the three of a group always add up to its total.
void Engine::show_blocks() {
  const auto blocks = status().blocks;
  for (size_t i = 0; i < metrics_.blocks.size(); ++i) metrics_.blocks[i].show(blocks[i]);
}

void Engine::wake() {
  handed_out_ = false;
  const std::lock_guard lock(callbacks_mutex_);
  if (wake_) wake_();
}

}  // namespace neutrino::engine
