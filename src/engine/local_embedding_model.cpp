#include "engine/local_embedding_model.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "base/log.h"
#include "models/pooling.h"

namespace neutrino::engine {
namespace {

constexpr int64_t kTextsPerStep = 256;  // each owns at least one KV block

const HistogramBuckets kLatency = {.001, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 60};

MetricLabels labels(const EmbeddingOptions& options) {
  return {{"model_name", options.model_name}, {"engine", "0"}};
}

}  // namespace

struct LocalEmbeddingModel::Input {
  std::vector<int32_t> tokens;
  std::vector<int32_t> segments;  // one a token, or none
  std::vector<float> pooled;      // (output_columns)
  int64_t computed = 0;           // tokens
};

struct LocalEmbeddingModel::Job {
  std::string id;
  std::vector<Input> inputs;
  size_t planned = 0;   // inputs that went into a batch, whole
  size_t finished = 0;  // inputs that are pooled
  int64_t submitted_ns = 0;
  bool cancelled = false, done = false;
  chat::EmbeddingResult result;
};

class LocalEmbeddingModel::JobEmbedding final : public chat::Embedding {
 public:
  JobEmbedding(LocalEmbeddingModel& model, std::shared_ptr<Job> job) : model_(model), job_(std::move(job)) {}
  ~JobEmbedding() override { model_.drop(job_); }

  std::optional<chat::EmbeddingResult> poll() override {
    const std::lock_guard lock(model_.mutex_);
    return take();
  }
  chat::EmbeddingResult wait() override {
    std::unique_lock lock(model_.mutex_);
    check(!taken_, "wait() after the result");
    model_.finished_.wait(lock, [&] { return job_->done; });
    return *take();
  }

 private:
  std::optional<chat::EmbeddingResult> take() {
    if (!job_->done || taken_) return std::nullopt;
    taken_ = true;
    return std::move(job_->result);
  }

  LocalEmbeddingModel& model_;
  std::shared_ptr<Job> job_;
  bool taken_ = false;
};

// Some rows of one input in a batch.
struct LocalEmbeddingModel::Step {
  struct Part {
    std::shared_ptr<Job> job;
    size_t input;
    int64_t first, rows;  // tokens first ... first + rows - 1
    bool last;            // of the input
  };
  std::vector<Part> parts;
  std::vector<int32_t> tokens, positions, output_rows;
  std::vector<int32_t> segments;  // one a row, if the model knows any
  std::vector<std::vector<int32_t>> tables;
  std::vector<compute::SequenceRows> sequences;
  int32_t next_block = 0;

  void clear() { *this = {}; }
};

LocalEmbeddingModel::LocalEmbeddingModel(const models::Model& model, compute::Backend& backend,
                                         const tokenizer::Tokenizer& tokenizer, chat::ChatModelInfo info,
                                         EmbeddingOptions options, Metrics& metrics, const Clock& clock)
    : model_(model),
      backend_(backend),
      tokenizer_(tokenizer),
      info_(std::move(info)),
      options_(std::move(options)),
      clock_(clock),
      prompt_tokens_(
          metrics.counter("vllm:prompt_tokens_total", "Tokens of embedded texts", labels(options_))),
      texts_(metrics.counter("neutrino_embedded_texts_total", "Texts that became vectors", labels(options_))),
      steps_(
          metrics.counter("neutrino_engine_steps_total", "Engine steps that ran a batch", labels(options_))),
      rejected_(metrics.counter("vllm:admission_rejections_total",
                                "Requests refused because the queue is full", labels(options_))),
      running_gauge_(
          metrics.gauge("vllm:num_requests_running", "Texts in the running batch", labels(options_))),
      waiting_gauge_(metrics.gauge("vllm:num_requests_waiting", "Texts in the queue", labels(options_))),
      latency_(metrics.histogram("vllm:e2e_request_latency_seconds", "From submission to the last vector",
                                 kLatency, labels(options_))) {
  if (options_.batch_tokens == 0) options_.batch_tokens = limits::kEmbeddingBatchTokens;
  if (model_.config().bidirectional)
    options_.batch_tokens = std::max(options_.batch_tokens, info_.context_tokens);
  if (options_.queued_inputs_max == 0) options_.queued_inputs_max = limits::kQueuedEmbeddings;
  // One text may go on from the step before, with all of its context; the others begin and end in their step.
  const int64_t blocks = ceil_div(info_.context_tokens, compute::kBlockPositions) +
                         ceil_div(options_.batch_tokens, compute::kBlockPositions) + kTextsPerStep;
  cache_ = backend_.make_kv_cache(model_.kv_cache_shape(blocks, 2));
  backend_.reserve(model_.scratch_bytes(options_.batch_tokens, options_.batch_tokens));
  thread_ = std::thread([this] { run(); });
}

LocalEmbeddingModel::~LocalEmbeddingModel() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_all();
  thread_.join();
}

chat::ChatModelStatus LocalEmbeddingModel::status() const {
  const std::lock_guard lock(mutex_);
  const bool dead = !death_message_.empty();
  return {.ready = !dead,
          .dead = dead,
          .reason = dead ? "engine_dead" : "",
          .running = running_inputs_,
          .waiting = queued_inputs_};
}

std::string LocalEmbeddingModel::render(const chat::Conversation&) const {
  throw make_error(ErrorCode::invalid_argument, "model {} is an embedding model; use /v1/embeddings",
                   info_.name)
      .with_reason("not_a_chat_model")
      .with_param("model");
}

std::unique_ptr<chat::Generation> LocalEmbeddingModel::generate(chat::GenerationRequest) {
  throw make_error(ErrorCode::invalid_argument, "model {} is an embedding model; use /v1/embeddings",
                   info_.name)
      .with_reason("not_a_chat_model")
      .with_param("model");
}

std::vector<int32_t> LocalEmbeddingModel::tokenize(std::string_view text, bool add_special,
                                                   bool parse_special) const {
  const auto special = parse_special ? tokenizer::Special::parse : tokenizer::Special::as_text;
  return add_special ? tokenizer::encode_document(tokenizer_, text, special)
                     : tokenizer_.encode(text, special);
}

namespace {

// The prompt with the two texts in their places. What the texts hold is not looked at.
std::string fill_pair_prompt(std::string_view prompt, std::string_view query, std::string_view document) {
  constexpr std::string_view kQuery = "{query}", kDocument = "{document}";
  std::string text;
  while (!prompt.empty()) {
    const size_t brace = prompt.find('{');
    text += prompt.substr(0, brace);
    prompt.remove_prefix(std::min(brace, prompt.size()));
    const bool first = prompt.starts_with(kQuery), second = prompt.starts_with(kDocument);
    if (first || second)
      text += first ? query : document;
    else
      text += prompt.substr(0, 1);
    prompt.remove_prefix(std::min(first ? kQuery.size() : second ? kDocument.size() : 1, prompt.size()));
  }
  return text;
}

}  // namespace

chat::TextPair LocalEmbeddingModel::tokenize_pair(std::string_view first, std::string_view second) const {
  if (!info_.reranker) return ChatModel::tokenize_pair(first, second);
  if (!options_.pair_prompt.empty())
    return {
        tokenizer_.encode(fill_pair_prompt(options_.pair_prompt, first, second), tokenizer::Special::parse),
        {}};
  tokenizer::TextPair pair = tokenizer::encode_pair(tokenizer_, first, second, tokenizer::Special::as_text);
  const auto last = static_cast<int32_t>(model_.config().segments) - 1;
  if (last < 0) return {std::move(pair.ids), {}};
  for (int32_t& type : pair.types) type = std::clamp(type, 0, last);
  return {std::move(pair.ids), std::move(pair.types)};
}

std::string LocalEmbeddingModel::detokenize(std::span<const int32_t> tokens) const {
  for (const int32_t token : tokens) token_text(token);
  return tokenizer::decode(tokenizer_, tokens, false);
}

std::string LocalEmbeddingModel::token_text(int32_t token) const {
  if (token < 0 || token >= tokenizer_.size())
    throw make_error(ErrorCode::invalid_argument, "token ids must be 0 to {}, got {}", tokenizer_.size() - 1,
                     token)
        .with_param("tokens");
  return std::string(tokenizer_.bytes(token));
}

void LocalEmbeddingModel::check_request(const chat::EmbeddingRequest& request) const {
  if (request.inputs.empty())
    throw Error(ErrorCode::invalid_argument, "input must not be empty").with_param("input");
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const auto& tokens = request.inputs[i];
    if (tokens.empty())
      throw make_error(ErrorCode::invalid_argument, "input[{}] holds no tokens", i).with_param("input");
    if (static_cast<int64_t>(tokens.size()) > info_.context_tokens)
      throw make_error(
          ErrorCode::invalid_argument,
          "input[{}] has {} tokens, but the model's context is {}; truncate_prompt_tokens cuts it", i,
          tokens.size(), info_.context_tokens)
          .with_reason("context_length_exceeded")
          .with_param("input");
    for (const int32_t token : tokens)
      if (token < 0 || token >= info_.vocab_size)
        throw make_error(ErrorCode::invalid_argument, "input[{}]: token ids must be 0 to {}, got {}", i,
                         info_.vocab_size - 1, token)
            .with_param("input");
  }
}

void LocalEmbeddingModel::check_segments(const chat::EmbeddingRequest& request) const {
  if (request.segments.empty()) return;
  check(request.segments.size() == request.inputs.size(), "segments are given for each input or for none");
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const auto& segments = request.segments[i];
    check(segments.empty() || segments.size() == request.inputs[i].size(), "one segment a token");
    for (const int32_t segment : segments)
      check(segment >= 0 && segment < model_.config().segments, "a segment that the model does not know");
  }
}

std::unique_ptr<chat::Embedding> LocalEmbeddingModel::embed(chat::EmbeddingRequest request) {
  check_request(request);
  check_segments(request);
  auto job = std::make_shared<Job>();
  job->id = std::move(request.id);
  job->submitted_ns = clock_.now_ns();
  for (size_t i = 0; i < request.inputs.size(); ++i)
    job->inputs.push_back(
        {.tokens = std::move(request.inputs[i]),
         .segments = request.segments.empty() ? std::vector<int32_t>() : std::move(request.segments[i]),
         .pooled = std::vector<float>(static_cast<size_t>(model_.output_columns()))});
  const auto count = static_cast<int64_t>(job->inputs.size());
  {
    const std::lock_guard lock(mutex_);
    if (!death_message_.empty())
      throw Error(ErrorCode::unavailable, "the engine has died: " + death_message_)
          .with_reason("engine_dead");
    if (queued_inputs_ > 0 && queued_inputs_ + count > options_.queued_inputs_max) {
      rejected_.Increment();
      throw make_error(ErrorCode::resource_exhausted, "{} texts are waiting already, of at most {}",
                       queued_inputs_, options_.queued_inputs_max)
          .with_reason("queue_full");
    }
    jobs_.push_back(job);
    queued_inputs_ += count;
  }
  arrived_.notify_one();
  return std::make_unique<JobEmbedding>(*this, std::move(job));
}

bool LocalEmbeddingModel::cancel(std::string_view id) {
  const std::lock_guard lock(mutex_);
  bool found = false;
  for (const auto& job : jobs_)
    if (job->id == id && !job->done) job->cancelled = found = true;
  return found;
}

// Its consumer has gone.
void LocalEmbeddingModel::drop(const std::shared_ptr<Job>& job) {
  const std::lock_guard lock(mutex_);
  if (!job->done) job->cancelled = true;
}

void LocalEmbeddingModel::set_wake(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

void LocalEmbeddingModel::run() {
  Step step;
  try {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        arrived_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
        if (stopping_) break;
        if (!plan(step)) continue;
        running_inputs_ = static_cast<int64_t>(step.parts.size());
        running_gauge_.Set(static_cast<double>(running_inputs_));
        waiting_gauge_.Set(static_cast<double>(queued_inputs_));
      }
      try {
        compute(step);
      } catch (const Error& error) {
        fail(step, error);
      }
    }
  } catch (const std::exception& bug) {
    die(step, bug.what());
  }
  const std::lock_guard lock(mutex_);
  for (const auto& job : jobs_)
    finish(*job, Error(ErrorCode::unavailable, "the server shut down").with_reason("draining"));
  jobs_.clear();
}

// Fills a batch from the queue, under the lock. False: nothing was left to compute (all cancelled).
bool LocalEmbeddingModel::plan(Step& step) {
  step.clear();
  const bool whole = model_.config().bidirectional;
  int64_t budget = options_.batch_tokens;
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    if ((*job)->cancelled) {
      queued_inputs_ -= static_cast<int64_t>((*job)->inputs.size() - (*job)->planned);
      finish(**job,
             Error(ErrorCode::cancelled, "the request was cancelled").with_reason("request_cancelled"));
      job = jobs_.erase(job);
      continue;
    }
    while ((*job)->planned < (*job)->inputs.size() && std::ssize(step.parts) < kTextsPerStep) {
      const size_t index = (*job)->planned;
      Input& input = (*job)->inputs[index];
      const int64_t rest = std::ssize(input.tokens) - input.computed, rows = std::min(rest, budget);
      // A causal text is cut only where a batch would stay empty otherwise, so that at most one is ever half done.
      if (rows == 0 || (rows < rest && (whole || !step.parts.empty()))) return true;
      step.parts.push_back({*job, index, input.computed, rows, rows == rest});
      budget -= rows;
      if (rows < rest) return true;
      ++(*job)->planned;
      --queued_inputs_;
    }
    if ((*job)->planned < (*job)->inputs.size()) break;
    job = jobs_.erase(job);  // the parts keep it
  }
  return !step.parts.empty();
}

// A text that spans steps always has the first blocks, those of a whole context; the others take the blocks behind.
void lay_out_blocks(std::vector<int32_t>& table, int64_t positions, bool spans, int32_t& next) {
  const int64_t count = ceil_div(positions, compute::kBlockPositions);
  table.resize(static_cast<size_t>(count));
  std::iota(table.begin(), table.end(), spans ? 0 : next);
  if (!spans) next += static_cast<int32_t>(count);
}

void LocalEmbeddingModel::lay_out(Step& step) const {
  const models::Pooling pooling = models::pooled_rows(model_.config());
  step.next_block = static_cast<int32_t>(ceil_div(info_.context_tokens, compute::kBlockPositions));
  step.tables.resize(step.parts.size());
  for (size_t i = 0; i < step.parts.size(); ++i) {
    const Step::Part& part = step.parts[i];
    const std::vector<int32_t>& tokens = part.job->inputs[part.input].tokens;
    const std::vector<int32_t>& segments = part.job->inputs[part.input].segments;
    lay_out_blocks(step.tables[i], part.first + part.rows, part.first > 0 || !part.last, step.next_block);
    step.sequences.push_back({.first_row = std::ssize(step.tokens),
                              .rows = part.rows,
                              .first_position = part.first,
                              .block_table = step.tables[i]});
    for (int64_t position = part.first; position < part.first + part.rows; ++position) {
      if (models::is_pooled(pooling, position, std::ssize(tokens)))
        step.output_rows.push_back(static_cast<int32_t>(step.tokens.size()));
      step.tokens.push_back(tokens[position]);
      step.positions.push_back(static_cast<int32_t>(position));
      if (model_.config().segments > 0)
        step.segments.push_back(segments.empty() ? 0 : segments[static_cast<size_t>(position)]);
    }
  }
}

void LocalEmbeddingModel::compute(Step& step) {
  lay_out(step);
  const compute::Tensor hidden = model_.forward(backend_,
                                                {.tokens = step.tokens,
                                                 .positions = step.positions,
                                                 .sequences = step.sequences,
                                                 .output_rows = step.output_rows,
                                                 .segments = step.segments},
                                                *cache_);
  size_t part = 0;
  for (int64_t r = 0; r < hidden.rows; ++r) {
    const int32_t row = step.output_rows[r];
    while (row >= step.sequences[part].first_row + step.sequences[part].rows) ++part;
    Input& input = step.parts[part].job->inputs[step.parts[part].input];
    models::add_to_pool(models::pooled_rows(model_.config()), hidden.row(r), step.positions[row],
                        std::ssize(input.tokens), model_.output_columns(), input.pooled.data());
  }
  finish_texts(step);
}

// Pooled rows of the texts that are complete become vectors; a request whose last one it was is done.
void LocalEmbeddingModel::finish_texts(const Step& step) {
  std::vector<const Step::Part*> ready;
  for (const Step::Part& part : step.parts)
    if (part.last) ready.push_back(&part);
  std::vector<std::vector<float>> vectors(ready.size());
  if (!ready.empty()) {
    const compute::Tensor pooled = backend_.zeros(std::ssize(ready), model_.output_columns());
    for (size_t i = 0; i < ready.size(); ++i)
      std::ranges::copy(ready[i]->job->inputs[ready[i]->input].pooled, pooled.row(static_cast<int64_t>(i)));
    const compute::Tensor out = model_.finish(backend_, pooled);
    for (size_t i = 0; i < ready.size(); ++i) {
      vectors[i].assign(out.row(static_cast<int64_t>(i)), out.row(static_cast<int64_t>(i)) + out.columns);
      if (model_.config().pooling != models::Pooling::rank)
        models::l2_normalize(vectors[i].data(), out.columns);
    }
  }
  {
    const std::lock_guard lock(mutex_);
    running_inputs_ = 0;
    steps_.Increment();
    prompt_tokens_.Increment(static_cast<double>(step.tokens.size()));
    texts_.Increment(static_cast<double>(ready.size()));
    for (const Step::Part& part : step.parts) part.job->inputs[part.input].computed += part.rows;
    for (size_t i = 0; i < ready.size(); ++i) {
      Job& job = *ready[i]->job;
      job.result.vectors.resize(job.inputs.size());
      job.result.vectors[ready[i]->input] = std::move(vectors[i]);
      if (++job.finished == job.inputs.size()) finish(job, std::nullopt);
    }
  }
  wake();
}

// An Error in a step fails the requests that take part in it, and the rest go on.
void LocalEmbeddingModel::fail(const Step& step, const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    running_inputs_ = 0;
    for (const Step::Part& part : step.parts) {
      if (part.job->done) continue;
      queued_inputs_ -= std::ssize(part.job->inputs) - static_cast<int64_t>(part.job->planned);
      finish(*part.job, error);
    }
    std::erase_if(jobs_, [](const auto& job) { return job->done; });
  }
  wake();
}

// Under the lock.
void LocalEmbeddingModel::finish(Job& job, std::optional<Error> error) {
  if (job.done) return;
  job.done = true;
  if (error) job.result.vectors.clear();
  job.result.error = std::move(error);
  latency_.Observe(static_cast<double>(clock_.now_ns() - job.submitted_ns) * 1e-9);
  finished_.notify_all();
}

void LocalEmbeddingModel::wake() {
  std::function<void()> wake;
  {
    const std::lock_guard lock(mutex_);
    running_gauge_.Set(static_cast<double>(running_inputs_));
    waiting_gauge_.Set(static_cast<double>(queued_inputs_));
    wake = wake_;
  }
  if (wake) wake();
}

// An exception that is no Error is a bug: everything that waits is told, and nothing more is accepted.
void LocalEmbeddingModel::die(const Step& step, const char* what) {
  spdlog::error("the embedding engine has died: {}", what);
  const Error error =
      Error(ErrorCode::unavailable, fmt::format("the engine has died: {}", what)).with_reason("engine_dead");
  {
    const std::lock_guard lock(mutex_);
    death_message_ = what;
    for (const auto& job : jobs_) finish(*job, error);
    for (const Step::Part& part : step.parts) finish(*part.job, error);
    jobs_.clear();
    running_inputs_ = queued_inputs_ = 0;
  }
  wake();
}

}  // namespace neutrino::engine
