#include "engine/guide.h"

#include <pthread.h>

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"

namespace neutrino::engine {
namespace {

uint64_t bit(int32_t token) { return uint64_t{1} << (token % 64); }

uint64_t& word(std::vector<uint64_t>& mask, int32_t token) { return mask[static_cast<size_t>(token / 64)]; }

}  // namespace

Guide::Guide(const text::Grammar* grammar, std::optional<ThinkingPhase> thinking, GuideOptions options)
    : thinking_(std::move(thinking)),
      options_(std::move(options)),
      mask_(static_cast<size_t>(
          std::max(grammar == nullptr ? 0 : grammar->mask_words(), (options_.vocab_size + 63) / 64))),
      ends_(mask_.size()),
      hidden_(mask_.size()),
      forced_(static_cast<size_t>(limits::kForcedTokens)) {
  if (grammar != nullptr) matcher_.emplace(*grammar);
  for (const auto* tokens : {&options_.model_end_tokens, &options_.end_tokens})
    for (const int32_t token : *tokens) word(ends_, token) |= bit(token);
  if (options_.ignore_eos)
    for (const int32_t token : options_.model_end_tokens) word(hidden_, token) |= bit(token);
  if (matcher_ && thinking_) make_thinking_mask();
  fill_mask();
}

// Reasoning outside of the grammar: is it going on, or may it still begin?
bool Guide::thinks() const {
  using State = ThinkingPhase::State;
  if (!thinking_ || thinking_->state() == State::done) return false;
  if (!matcher_) return true;
  return !thinking_->tokens().in_grammar && thinking_->state() != State::outside;
}

std::span<const int32_t> Guide::advance(int32_t token) {
  const bool thought = thinks();
  if (thinking_) thinking_->advance(token);
  const bool begins = thinks() && !thought;  // the token is the opening tag
  if (matcher_ && !thought && !begins) return advance_grammar(token);
  return {};
}

std::span<const int32_t> Guide::advance_grammar(int32_t token) {
  note(token);
  if (has_pending()) {  // consumed already, when it was found
    ++forced_next_;
  } else {
    failed_ = !matcher_->consume(token);
    if (failed_ || ended_) return {};
    forced_count_ = matcher_->take_forced(forced_);
    forced_next_ = 0;
  }
  if (matcher_->is_complete() && options_.model_end_tokens.empty()) ended_ = !has_pending();
  if (options_.forcing == Forcing::one_by_one) return {};
  forced_next_ = forced_count_;
  const auto forced = std::span<const int32_t>(forced_).first(static_cast<size_t>(forced_count_));
  std::ranges::for_each(forced, [this](int32_t next) { note(next); });
  if (matcher_->is_complete() && options_.model_end_tokens.empty()) ended_ = true;
  return forced;
}

void Guide::note(int32_t token) {
  ended_ = ended_ || std::ranges::find(options_.model_end_tokens, token) != options_.model_end_tokens.end();
}

void Guide::fill_mask() {
  using State = ThinkingPhase::State;
  free_ = false;
  if (thinking_ && thinking_->state() == State::closing) {
    show_only(thinking_->forced());
  } else if (!matcher_) {
    free_ = true;
    return;
  } else if (thinks()) {
    std::ranges::copy(thinking_mask_, mask_.begin());
  } else if (has_pending()) {
    show_only(forced_[static_cast<size_t>(forced_next_)]);
  } else {
    failed_ = !matcher_->fill_mask(mask_);
    // Reasoning may begin with the answer's first token, and only there.
    const bool may_think =
        thinking_ && thinking_->state() == State::outside && !thinking_->tokens().in_grammar;
    if (may_think && thinking_->open_token() >= 0)
      word(mask_, thinking_->open_token()) |= bit(thinking_->open_token());
  }
  look_at_ends();
}

// Anything, but no end of the answer before what the grammar wants, and no tag with text of the answer behind it in one token.
void Guide::make_thinking_mask() {
  for (const uint64_t ends : ends_) thinking_mask_.push_back(~ends);
  const std::vector<bool>& barred = thinking_->tokens().closes_with_text;
  for (int32_t token = 0; token < std::ssize(barred); ++token)
    if (barred[static_cast<size_t>(token)]) word(thinking_mask_, token) &= ~bit(token);
}

void Guide::show_only(int32_t token) {
  std::ranges::fill(mask_, 0);
  word(mask_, token) |= bit(token);
}

// Does anything else than an end token come next? If so, those that are to be ignored are taken out.
void Guide::look_at_ends() {
  uint64_t others = 0;
  for (size_t i = 0; i < mask_.size(); ++i) others |= mask_[i] & ~ends_[i];
  only_ends_ = others == 0;
  for (size_t i = 0; i < mask_.size() && !only_ends_; ++i) mask_[i] &= ~hidden_[i];
}

std::string Guide::error() const {
  const std::string why = matcher_ ? matcher_->error() : "";
  return why.empty() ? "the grammar leaves no token that could follow" : "the grammar failed: " + why;
}

// ---- worker

GuideWorker::GuideWorker(int64_t guides_max) {
  guides_.reserve(static_cast<size_t>(guides_max));
  thread_ = std::thread([this] { run(); });
}

GuideWorker::~GuideWorker() {
  finish();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  added_.notify_one();
  thread_.join();
}

void GuideWorker::add(Guide& guide) {
  const std::lock_guard lock(mutex_);
  check(guides_.size() < guides_.capacity(), "more guides than sequences");
  guides_.push_back(&guide);
}

void GuideWorker::begin() {
  {
    const std::lock_guard lock(mutex_);
    if (taken_ == guides_.size()) return;
  }
  added_.notify_one();
}

void GuideWorker::finish() {
  std::unique_lock lock(mutex_);
  while (Guide* guide = take()) fill(*guide, lock);
  filled_.wait(lock, [this] { return filling_ == 0; });
  guides_.clear();
  taken_ = 0;
}

void GuideWorker::run() {
  ::pthread_setname_np(::pthread_self(), "guide");
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    while (Guide* guide = take()) fill(*guide, lock);
    if (filling_ == 0) filled_.notify_one();
    added_.wait(lock, [this] { return stopping_ || taken_ < guides_.size(); });
  }
}

Guide* GuideWorker::take() { return taken_ < guides_.size() ? guides_[taken_++] : nullptr; }

void GuideWorker::fill(Guide& guide, std::unique_lock<std::mutex>& lock) {
  ++filling_;
  lock.unlock();
  guide.fill_mask();
  lock.lock();
  --filling_;
}

}  // namespace neutrino::engine
