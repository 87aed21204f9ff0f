#include "chat/testing/fake_chat_model.h"

#include <algorithm>

#include "chat/answer_parser.h"

namespace neutrino::chat::testing {

struct FakeChatModel::Play {
  std::string id;
  SamplingParameters sampling;
  Script script;
  Time due{};  // of the next piece
  size_t next_piece = 0;
  Usage usage;
  bool ended = false;   // nothing more will be added
  bool closed = false;  // the consumer has seen the end, or is gone
  std::optional<GenerationChunk> ready;
  std::unique_ptr<AnswerParser> parser = {};  // where the answer is to be taken apart

  void add_text(std::string_view text) {
    if (!parser) {
      ready->text += text;
      return;
    }
    parser->push(text);
    add_pieces();
  }
  void add_pieces() {
    for (ReadPiece& read : parser->take()) {
      AnswerPiece& piece = read.piece;
      if (piece.kind == AnswerPiece::Kind::content) ready->text += piece.text;
      if (piece.kind == AnswerPiece::Kind::reasoning) usage.reasoning_tokens += std::ssize(piece.text);
      ready->pieces.push_back(std::move(piece));
    }
  }
};

class FakeGeneration final : public Generation {
 public:
  FakeGeneration(FakeChatModel& model, std::shared_ptr<FakeChatModel::Play> play)
      : model_(model), play_(std::move(play)) {}
  ~FakeGeneration() override { cancel(); }

  std::optional<GenerationChunk> poll() override {
    const std::lock_guard lock(model_.mutex_);
    return std::exchange(play_->ready, std::nullopt);
  }

  GenerationChunk wait() override {
    std::unique_lock lock(model_.mutex_);
    model_.changed_.wait(lock, [&] { return play_->ready || play_->ended; });
    check(play_->ready.has_value(), "wait() after the last piece");
    return *std::exchange(play_->ready, std::nullopt);
  }

  void cancel() override {
    const std::lock_guard lock(model_.mutex_);
    model_.cancel_play(*play_);
  }

 private:
  FakeChatModel& model_;
  std::shared_ptr<FakeChatModel::Play> play_;
};

namespace {

text::VocabularyTokens byte_tokens() {
  text::VocabularyTokens tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.bytes.emplace_back(1, static_cast<char>(byte));
  tokens.bytes.emplace_back("<|end|>");
  tokens.special.assign(256, false);
  tokens.special.push_back(true);
  tokens.end_tokens = {FakeChatModel::kEndOfTurn};
  return tokens;
}

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// One token a byte; the text of a character comes with its last byte.
void append_tokens(std::string_view piece, const SamplingParameters& sampling,
                   std::vector<GeneratedToken>& tokens) {
  std::string held;
  for (size_t i = 0; i < piece.size(); ++i) {
    GeneratedToken token{
        .token = static_cast<unsigned char>(piece[i]), .logprob = -0.5F, .top = {}, .text = {}};
    for (int64_t rank = 0; rank < sampling.logprobs.value_or(0); ++rank)
      token.top.push_back(
          {static_cast<int32_t>((token.token + rank) % 256), -0.5F - static_cast<float>(rank)});
    held += piece[i];
    if (i + 1 == piece.size() || !continues_character(piece[i + 1])) token.text = std::exchange(held, {});
    tokens.push_back(std::move(token));
  }
}

}  // namespace

ChatModelInfo FakeChatModel::default_info() {
  ChatModelInfo info;
  info.name = "fake";
  info.fingerprint = "fake-0";
  info.context_tokens = 4096;
  info.vocab_size = 257;
  info.has_chat_template = true;
  info.chat_template = "messages tools";
  info.answer.calls = &kHermesSyntax;
  info.defaults.max_tokens = 1024;
  return info;
}

FakeChatModel::FakeChatModel(ChatModelInfo info)
    : info_(std::move(info)), grammars_(byte_tokens), thread_([this] { run(); }) {
  const std::lock_guard lock(mutex_);
  status_.ready = true;
  status_.kv_blocks_free = 128;
}

FakeChatModel::~FakeChatModel() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeChatModel::add_script(Script script) {
  const std::lock_guard lock(mutex_);
  scripts_.push_back(std::move(script));
}

void FakeChatModel::set_usual_script(Script script) {
  const std::lock_guard lock(mutex_);
  usual_script_ = std::move(script);
}

void FakeChatModel::refuse_next(Error error) {
  const std::lock_guard lock(mutex_);
  refusal_ = std::move(error);
}

void FakeChatModel::set_status(ChatModelStatus status) {
  const std::lock_guard lock(mutex_);
  status_ = std::move(status);
}

void FakeChatModel::set_admission(std::optional<Error> refusal) {
  const std::lock_guard lock(mutex_);
  admission_ = std::move(refusal);
}

void FakeChatModel::set_memory(std::vector<MemoryUse> memory) {
  const std::lock_guard lock(mutex_);
  memory_ = std::move(memory);
}

void FakeChatModel::check_admission() const {
  const std::lock_guard lock(mutex_);
  if (admission_) throw Error(*admission_);
}

std::vector<MemoryUse> FakeChatModel::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

void FakeChatModel::declare_dead(const std::string& why) {
  const std::lock_guard lock(mutex_);
  status_ = {.ready = false, .dead = true, .reason = why};
}

void FakeChatModel::kill(Error error) {
  const std::lock_guard lock(mutex_);
  status_ = {.ready = false, .dead = true, .reason = "engine_dead"};
  for (const auto& play : plays_) {
    play->script.error = error;
    end(*play, FinishReason::error);
  }
  if (wake_) wake_();
  changed_.notify_all();
}

std::vector<GenerationRequest> FakeChatModel::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::vector<Conversation> FakeChatModel::conversations() const {
  const std::lock_guard lock(mutex_);
  return conversations_;
}

FakeChatModel::Asked FakeChatModel::take_asked() {
  const std::lock_guard lock(mutex_);
  return {std::exchange(requests_, {}), std::exchange(conversations_, {}), std::exchange(tokenized_, {}),
          std::exchange(compiled_, {}), admin_.take_asked()};
}

int64_t FakeChatModel::active() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::count_if(plays_, [](const auto& play) { return !play->ended; });
}

int64_t FakeChatModel::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

ChatModelStatus FakeChatModel::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::string FakeChatModel::render(const Conversation& conversation) const {
  const std::lock_guard lock(mutex_);
  conversations_.push_back(conversation);
  std::string text;
  for (const Message& message : conversation.messages)
    text += "<|" + message.role + "|>" + message.content.value_or("") + "\n";
  return conversation.add_generation_prompt ? text + "<|assistant|>" : text;
}

std::vector<int32_t> FakeChatModel::tokenize(std::string_view text, bool add_special,
                                             bool parse_special) const {
  {
    const std::lock_guard lock(mutex_);
    tokenized_.push_back(fmt::format("{} {} {}", add_special, parse_special, text));
  }
  std::vector<int32_t> tokens;
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  return tokens;
}

std::string FakeChatModel::detokenize(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) text += token_text(token);
  return text;
}

std::string FakeChatModel::token_text(int32_t token) const {
  return token < 256 ? std::string(1, static_cast<char>(token)) : "<|end|>";
}

std::shared_ptr<const text::Grammar> FakeChatModel::compile_grammar(const text::GrammarSpec& spec) const {
  {
    const std::lock_guard lock(mutex_);
    compiled_.push_back(spec.text);
  }
  return grammars_.get(spec);
}

std::unique_ptr<Generation> FakeChatModel::generate(GenerationRequest request) {
  auto play = std::make_shared<Play>();
  {
    const std::lock_guard lock(mutex_);
    if (refusal_) throw *std::exchange(refusal_, std::nullopt);
    if (status_.dead) throw Error(ErrorCode::unavailable, "the engine is dead").with_reason("engine_dead");
    if (admin_.sleep_state() != SleepState::awake)
      throw Error(ErrorCode::unavailable, "the model sleeps").with_reason("sleeping");
    play->id = request.id;
    play->sampling = request.sampling;
    if (request.answer) play->parser = std::make_unique<AnswerParser>(request.answer, request.id);
    play->usage.prompt_tokens = static_cast<int64_t>(request.prompt.size());
    play->script = usual_script_;
    if (!scripts_.empty()) {
      play->script = std::move(scripts_.front());
      scripts_.pop_front();
    }
    play->usage.cached_tokens = play->script.cached_tokens;
    play->due = std::chrono::steady_clock::now() + play->script.first_delay;
    if (request.sampling.prompt_logprobs) {
      play->ready.emplace();
      append_tokens(detokenize(request.prompt), request.sampling, play->ready->prompt_tokens);
    }
    if (request.report_progress && play->script.progress) {
      if (!play->ready) play->ready.emplace();
      play->ready->progress = play->script.progress;
    }
    plays_.push_back(play);
    requests_.push_back(std::move(request));
  }
  changed_.notify_all();
  return std::make_unique<FakeGeneration>(*this, std::move(play));
}

namespace {

class FakeEmbedding final : public Embedding {
 public:
  explicit FakeEmbedding(EmbeddingResult result) : result_(std::move(result)) {}
  std::optional<EmbeddingResult> poll() override { return std::exchange(result_, std::nullopt); }
  EmbeddingResult wait() override { return *poll(); }

 private:
  std::optional<EmbeddingResult> result_;
};

}  // namespace

std::unique_ptr<Embedding> FakeChatModel::embed(EmbeddingRequest request) {
  if (info_.embedding_size == 0 && !info_.reranker) return ChatModel::embed(std::move(request));
  EmbeddingResult result;
  for (const auto& input : request.inputs)
    if (info_.reranker) result.vectors.push_back({static_cast<float>(input.size()) - 10});
  if (info_.reranker) return std::make_unique<FakeEmbedding>(std::move(result));
  for (const auto& input : request.inputs) {
    auto& vector = result.vectors.emplace_back();
    for (int64_t i = 0; i < info_.embedding_size; ++i)
      vector.push_back(1.0f / static_cast<float>(1 + i + static_cast<int64_t>(input.size())));
  }
  return std::make_unique<FakeEmbedding>(std::move(result));
}

TextPair FakeChatModel::tokenize_pair(std::string_view first, std::string_view second) const {
  if (!info_.reranker) return ChatModel::tokenize_pair(first, second);
  TextPair pair{tokenize(first, false, false), {}};
  pair.segments.resize(pair.tokens.size() + 1, 0);
  pair.tokens.push_back(kEndOfTurn);
  for (const int32_t token : tokenize(second, false, false)) pair.tokens.push_back(token);
  pair.tokens.push_back(kEndOfTurn);
  pair.segments.resize(pair.tokens.size(), 1);
  return pair;
}

bool FakeChatModel::cancel(std::string_view id) {
  const std::lock_guard lock(mutex_);
  for (const auto& play : plays_) {
    if (play->id != id || play->ended) continue;
    cancel_play(*play);
    return true;
  }
  return false;
}

// ---- adapters: named after what they are loaded from

std::vector<AdapterPtr> FakeChatModel::adapters() const {
  const std::lock_guard lock(mutex_);
  std::vector<AdapterPtr> all;
  for (const auto& [name, adapter] : adapters_) all.push_back(adapter);
  return all;
}

AdapterPtr FakeChatModel::find_adapter(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto found = adapters_.find(name);
  return found == adapters_.end() ? nullptr : found->second;
}

AdapterPtr FakeChatModel::load_adapter(const std::string& name, const std::filesystem::path& path,
                                       IfLoaded if_loaded) {
  const std::lock_guard lock(mutex_);
  if (adapters_.contains(name) && if_loaded == IfLoaded::refuse)
    throw Error(ErrorCode::already_exists, "the adapter is loaded already").with_reason("adapter_exists");
  auto adapter = std::make_shared<Adapter>();
  adapter->name = name;
  adapter->file = path.filename().string();
  adapter->digest = std::string(64, 'd');
  adapters_[name] = adapter;
  return adapter;
}

void FakeChatModel::unload_adapter(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto found = adapters_.find(name);
  if (found == adapters_.end()) return ChatModel::unload_adapter(name);
  adapters_.erase(found);
}

void FakeChatModel::set_wake(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

// The fake's thread: plays whatever is due, then sleeps until the next piece is.
void FakeChatModel::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Time now = std::chrono::steady_clock::now();
    bool news = false;
    Time next = now + std::chrono::hours(1);
    for (const auto& play : plays_) {
      while (!play->ended && play->due <= now && advance(*play, now)) news = true;
      if (!play->ended) next = std::min(next, std::max(play->due, now));
    }
    std::erase_if(plays_, [](const auto& play) { return play->ended; });
    if (news) {
      if (wake_) wake_();
      changed_.notify_all();
      continue;
    }
    changed_.wait_until(lock, next);
  }
}

bool FakeChatModel::advance(Play& play, Time now) {
  if (play.next_piece == play.script.pieces.size()) {
    if (play.script.stall) {
      play.due = now + std::chrono::hours(1);
      return false;
    }
    end(play, play.script.error ? FinishReason::error : play.script.finish_reason);
    return true;
  }
  std::string_view piece = play.script.pieces[play.next_piece++];
  const int64_t room = play.sampling.max_tokens - play.usage.completion_tokens;
  const bool cut = static_cast<int64_t>(piece.size()) >= room && play.next_piece < play.script.pieces.size();
  piece = piece.substr(0, static_cast<size_t>(room));
  if (!play.ready) play.ready.emplace();
  play.add_text(piece);
  append_tokens(piece, play.sampling, play.ready->tokens);
  play.usage.completion_tokens += static_cast<int64_t>(piece.size());
  play.ready->usage = play.usage;
  play.due = play.next_piece < play.script.pieces.size() ? now + play.script.delay : now;
  if (cut) end(play, FinishReason::length);
  return true;
}

void FakeChatModel::end(Play& play, FinishReason reason) {
  if (play.ended) return;
  if (!play.ready) play.ready.emplace();
  play.ready->finish_reason = reason;
  if (play.parser) {
    play.parser->finish();
    play.add_pieces();
    play.ready->parse_failed = reason != FinishReason::length && play.parser->failed();
  }
  if (reason == FinishReason::error) play.ready->error = play.script.error;
  if (reason == FinishReason::stop) play.ready->stop_reason = play.script.stop_reason;
  play.ready->usage = play.usage;
  play.ready->timings = {.queue_ms = 1, .prefill_ms = 2, .decode_ms = 3};
  play.ended = true;
}

void FakeChatModel::cancel_play(Play& play) {
  if (play.ended) return;
  ++cancelled_;
  end(play, FinishReason::cancelled);
  changed_.notify_all();
}

}  // namespace neutrino::chat::testing
