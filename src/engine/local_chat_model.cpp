#include "engine/local_chat_model.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/limits.h"
#include "chat/answer_stream.h"
#include "chat/grammar_tokens.h"
#include "chat/text_stream.h"
#include "chat/thinking_tokens.h"

namespace neutrino::engine {

// The text of an answer, or its pieces where it is taken apart.
class GeneratedText {
 public:
  GeneratedText(const tokenizer::Tokenizer& tokenizer, const Sequence& sequence,
                std::shared_ptr<const chat::AnswerSyntax> syntax) {
    const chat::SamplingParameters& sampling = sequence.sampling;
    const chat::TextStreamOptions options = {sampling.stop, sampling.include_stop_in_output,
                                             sampling.skip_special_tokens, sampling.min_tokens};
    if (syntax)
      answer_.emplace(tokenizer, options, std::move(syntax), sequence.id);
    else
      text_.emplace(tokenizer, options);
  }

  bool push(chat::GeneratedToken token) {
    return answer_ ? answer_->push(std::move(token)) : text_->push(std::move(token));
  }
  void push_silent(chat::GeneratedToken token) {
    answer_ ? answer_->push_silent(std::move(token)) : text_->push_silent(std::move(token));
  }
  void finish() { answer_ ? answer_->finish() : text_->finish(); }
  void take(chat::GenerationChunk& chunk) {
    answer_ ? answer_->take(chunk) : text_->take(chunk.text, chunk.tokens);
  }
  const std::string& matched() const { return answer_ ? answer_->matched() : text_->matched(); }
  int64_t tokens_seen() const { return answer_ ? answer_->tokens_seen() : text_->tokens_seen(); }
  int64_t reasoning_tokens() const { return answer_ ? answer_->reasoning_tokens() : 0; }
  bool failed() const { return answer_ && answer_->failed(); }

 private:
  std::optional<chat::TextStream> text_;  // one of the two
  std::optional<chat::AnswerStream> answer_;
};

// One consumer's view of a sequence: how far it has read, and what came of it.
class LocalGeneration final : public chat::Generation {
 public:
  LocalGeneration(LocalChatModel& model, SequencePtr sequence,
                  std::shared_ptr<const chat::AnswerSyntax> syntax)
      : model_(model),
        sequence_(std::move(sequence)),
        text_(model.tokenizer_, *sequence_, std::move(syntax)) {}

  ~LocalGeneration() override {
    cancel();
    model_.forget(*sequence_);
  }

  std::optional<chat::GenerationChunk> poll() override {
    if (ended_) return std::nullopt;
    chat::GenerationChunk chunk;
    const bool finished = sequence_->stream.finished();  // before size(): then all tokens are there
    read_tokens();
    if (text_.matched().empty() && finished) finish(chunk);
    if (!text_.matched().empty()) end(chunk, chat::FinishReason::stop, text_.matched());
    if (sequence_->stream.size() > 0 || finished) read_prompt(chunk);
    read_progress(chunk);
    text_.take(chunk);
    if (!ended_ && chunk.tokens.empty() && chunk.prompt_tokens.empty() && !chunk.progress)
      return std::nullopt;
    chunk.usage = usage();
    return chunk;
  }

  chat::GenerationChunk wait() override {
    check(!ended_, "wait() after the last piece");
    for (;;) {
      const uint32_t version = sequence_->stream.version();
      if (auto chunk = poll()) return std::move(*chunk);
      sequence_->stream.wait(version);
    }
  }

  void cancel() override { model_.engine_.end(*sequence_, EndRequest::cancelled); }

 private:
  // Up to the stop string, if there is one. A token that ends the generation counts, but is text only if asked for.
  void read_tokens() {
    const int64_t size = sequence_->stream.size();
    while (read_ < size && text_.matched().empty()) {
      fault_point("detokenize");
      chat::GeneratedToken token = token_at(read_++);
      if (sequence_->is_end_token(token.token) && !sequence_->sampling.include_stop_in_output)
        text_.push_silent(std::move(token));
      else if (text_.push(std::move(token)))
        model_.engine_.end(*sequence_, EndRequest::stopped);
    }
  }

  chat::GeneratedToken token_at(int64_t index) const {
    const chat::TokenLogprob record = sequence_->stream.record(index);
    const auto top = sequence_->stream.top(index);
    return {.token = record.token, .logprob = record.logprob, .top = {top.begin(), top.end()}};
  }

  void finish(chat::GenerationChunk& chunk) {
    text_.finish();
    const TokenStream& stream = sequence_->stream;
    std::string stop_reason;
    if (stream.reason() == chat::FinishReason::stop && stream.size() > 0)
      stop_reason = std::to_string(stream.record(stream.size() - 1).token);
    chunk.error = stream.error();
    end(chunk, stream.reason(), std::move(stop_reason));
  }

  void end(chat::GenerationChunk& chunk, chat::FinishReason reason, std::string stop_reason) {
    ended_ = true;
    chunk.finish_reason = reason;
    // What was cut off may look like a call that is none.
    chunk.parse_failed = reason != chat::FinishReason::length && text_.failed();
    chunk.stop_reason = std::move(stop_reason);
    chunk.timings = timings();
  }

  void read_prompt(chat::GenerationChunk& chunk) {
    if (!sequence_->sampling.prompt_logprobs || prompt_read_ || sequence_->wants_prompt_logprobs()) return;
    prompt_read_ = true;
    tokenizer::StreamDecoder decoder(model_.tokenizer_, false);
    for (int64_t i = 0; i < sequence_->prompt_tokens; ++i) {
      const auto& [id, logprob] = sequence_->prompt_logprobs[static_cast<size_t>(i)];
      chat::GeneratedToken token{.token = id, .logprob = logprob};
      if (i > 0) std::ranges::copy(sequence_->prompt_top(i - 1), std::back_inserter(token.top));
      decoder.push(id, token.text);
      chunk.prompt_tokens.push_back(std::move(token));
    }
    decoder.finish(chunk.prompt_tokens.back().text);
  }

  // What is new of how far the prompt is.
  void read_progress(chat::GenerationChunk& chunk) {
    const int64_t processed = sequence_->prompt_processed.load(std::memory_order_acquire);
    if (processed == progress_read_) return;
    progress_read_ = processed;
    chunk.progress = {
        .total = sequence_->prompt_tokens,
        .cached = sequence_->cached_tokens,
        .processed = processed,
        .time_ms = static_cast<double>(sequence_->processed_ns - sequence_->scheduled_ns) * 1e-6};
  }

  chat::Usage usage() const {
    return {.prompt_tokens = sequence_->prompt_tokens,
            .completion_tokens = text_.tokens_seen(),
            .cached_tokens = sequence_->cached_tokens,
            .reasoning_tokens = text_.reasoning_tokens()};
  }

  chat::Timings timings() const {
    const auto ms = [](int64_t from_ns, int64_t to_ns) {
      return from_ns == 0 ? 0 : static_cast<double>(to_ns - from_ns) * 1e-6;
    };
    const Sequence& s = *sequence_;
    if (s.stream.size() == 0)
      return {.queue_ms = s.scheduled_ns == 0 ? 0 : ms(s.submitted_ns, s.scheduled_ns)};
    return {.queue_ms = ms(s.submitted_ns, s.scheduled_ns),
            .prefill_ms = ms(s.scheduled_ns, s.first_token_ns),
            .decode_ms = ms(s.first_token_ns, s.last_token_ns)};
  }

  LocalChatModel& model_;
  SequencePtr sequence_;
  GeneratedText text_;
  int64_t read_ = 0;  // tokens taken from the stream
  int64_t progress_read_ = 0;
  bool ended_ = false;
  bool prompt_read_ = false;
};

LocalChatModel::LocalChatModel(Engine& engine, const tokenizer::Tokenizer& tokenizer, Renderer renderer,
                               chat::ChatModelInfo info, Adapters* adapters)
    : engine_(engine),
      tokenizer_(tokenizer),
      renderer_(std::move(renderer)),
      info_(std::move(info)),
      adapters_(adapters),
      grammars_([this] {
        return chat::grammar_tokens(tokenizer_, engine_.options().vocab_size, engine_.options().end_tokens);
      }),
      thinking_(info_.answer.reasoning == nullptr
                    ? nullptr
                    : chat::make_thinking_tokens(*info_.answer.reasoning, tokenizer_)) {}

chat::ChatModelStatus LocalChatModel::status() const {
  const EngineStatus engine = engine_.status();
  const bool asleep = engine_.sleep_state() != chat::SleepState::awake;
  const bool stalled = engine.since_progress_ns > limits::kHeartbeatSeconds * 1'000'000'000;
  return {.ready = !engine.dead && !stalled && !asleep,
          .dead = engine.dead,
          .reason = engine.dead ? "engine_dead"
                    : asleep    ? "the model is asleep; POST /wake_up wakes it"
                    : stalled   ? "the engine makes no progress"
                                : "",
          .running = engine.running,
          .waiting = engine.waiting,
          .kv_blocks_referenced = engine.blocks[0].referenced,
          .kv_blocks_cached = engine.blocks[0].cached,
          .kv_blocks_free = engine.blocks[0].free,
          .since_progress_ns = engine.since_progress_ns,
          .queue_drain_seconds = engine.queue_drain_seconds};
}

// Cached prefixes are a part of the KV cache: the blocks that no sequence refers to.
std::vector<chat::MemoryUse> LocalChatModel::memory() const {
  const EngineStatus status = engine_.status();
  const KvPlan& plan = engine_.kv_plan();
  int64_t held = 0, cached = 0;
  for (size_t i = 0; i < plan.groups().size(); ++i) {
    held += status.blocks[i].referenced * plan.groups()[i].bytes_per_block;
    cached += status.blocks[i].cached * plan.groups()[i].bytes_per_block;
  }
  const auto grammars = grammars_.counts();
  return {{"kv_cache", held + cached, engine_.kv_bytes()},
          {"kv_cache.prefixes", cached, engine_.kv_bytes()},
          {"grammar_cache", grammars.bytes, limits::kGrammarCacheBytes}};
}

std::string LocalChatModel::render(const chat::Conversation& conversation) const {
  if (!renderer_)
    throw Error(ErrorCode::invalid_argument, "this model has no chat template").with_reason("template_error");
  return renderer_(conversation);
}

std::vector<int32_t> LocalChatModel::tokenize(std::string_view text, bool add_special,
                                              bool parse_special) const {
  fault_point("tokenize");
  const auto special = parse_special ? tokenizer::Special::parse : tokenizer::Special::as_text;
  return add_special ? tokenizer::encode_prompt(tokenizer_, text, special) : tokenizer_.encode(text, special);
}

std::string LocalChatModel::detokenize(std::span<const int32_t> tokens) const {
  for (const int32_t token : tokens) check_token(token);
  return tokenizer::decode(tokenizer_, tokens, false);
}

std::string LocalChatModel::token_text(int32_t token) const {
  check_token(token);
  return std::string(tokenizer_.bytes(token));
}

void LocalChatModel::check_token(int32_t token) const {
  if (token < 0 || token >= tokenizer_.size())
    throw make_error(ErrorCode::invalid_argument, "token ids must be 0 to {}, got {}", tokenizer_.size() - 1,
                     token)
        .with_param("tokens");
}

std::shared_ptr<const text::Grammar> LocalChatModel::compile_grammar(const text::GrammarSpec& spec) const {
  return grammars_.get(spec);
}

std::unique_ptr<chat::Generation> LocalChatModel::generate(chat::GenerationRequest request) {
  std::shared_ptr<const chat::AnswerSyntax> syntax = request.answer;
  if (syntax && syntax->reasoning != nullptr) request.thinking = thinking_;
  SequencePtr sequence = engine_.submit(std::move(request));
  auto generation = std::make_unique<LocalGeneration>(*this, sequence, std::move(syntax));
  const std::lock_guard lock(mutex_);
  by_id_.emplace(sequence->id, sequence);
  return generation;
}

bool LocalChatModel::cancel(std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto [begin, end] = by_id_.equal_range(std::string(id));
  bool found = false;
  for (auto entry = begin; entry != end; ++entry) {
    if (entry->second->stream.finished()) continue;
    engine_.end(*entry->second, EndRequest::cancelled);
    found = true;
  }
  return found;
}

void LocalChatModel::forget(const Sequence& sequence) {
  const std::lock_guard lock(mutex_);
  const auto [begin, end] = by_id_.equal_range(sequence.id);
  for (auto entry = begin; entry != end; ++entry) {
    if (entry->second.get() != &sequence) continue;
    by_id_.erase(entry);
    return;
  }
}

// ---- adapters

std::vector<chat::AdapterPtr> LocalChatModel::adapters() const {
  if (!adapters_) return {};
  const auto all = adapters_->list();
  return {all.begin(), all.end()};
}

chat::AdapterPtr LocalChatModel::find_adapter(std::string_view name) const {
  return adapters_ ? adapters_->find(name) : nullptr;
}

chat::AdapterPtr LocalChatModel::load_adapter(const std::string& name, const std::filesystem::path& path,
                                              chat::IfLoaded if_loaded) {
  return adapters_ ? adapters_->load(name, path, if_loaded) : ChatModel::load_adapter(name, path, if_loaded);
}

void LocalChatModel::unload_adapter(std::string_view name) {
  adapters_ ? adapters_->unload(name) : ChatModel::unload_adapter(name);
}

void LocalChatModel::set_wake(std::function<void()> wake) { engine_.set_wake(std::move(wake)); }

chat::SleepReport LocalChatModel::sleep() {
  return {.kv_bytes = engine_.sleep(),
          .kept = "the weights: they are in memory of this process, in the layout of its kernels"};
}

chat::PrefixReport LocalChatModel::save_prefix(const std::filesystem::path& file,
                                               const std::vector<int32_t>& tokens,
                                               const std::string& cache_salt, int64_t bytes_max) {
  const PrefixFile prefix = engine_.copy_prefix(tokens, cache_salt);
  return {.tokens = std::ssize(prefix.tokens), .bytes = write_prefix_file(file, prefix, bytes_max)};
}

chat::PrefixReport LocalChatModel::restore_prefix(const std::filesystem::path& file,
                                                  const std::string& cache_salt, int64_t bytes_max) {
  const PrefixFile prefix = read_prefix_file(file, bytes_max);
  return {.tokens = engine_.adopt_prefix(prefix, cache_salt), .bytes = std::ssize(prefix.data)};
}

}  // namespace neutrino::engine
