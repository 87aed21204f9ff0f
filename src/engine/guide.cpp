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

Guide::Guide(const text::Grammar& grammar, GuideOptions options)
    : matcher_(grammar),
      options_(std::move(options)),
      mask_(static_cast<size_t>(std::max(grammar.mask_words(), (options_.vocab_size + 63) / 64))),
      ends_(mask_.size()),
      hidden_(mask_.size()),
      forced_(static_cast<size_t>(limits::kForcedTokens)) {
  for (const auto* tokens : {&options_.model_end_tokens, &options_.end_tokens})
    for (const int32_t token : *tokens) word(ends_, token) |= bit(token);
  if (options_.ignore_eos)
    for (const int32_t token : options_.model_end_tokens) word(hidden_, token) |= bit(token);
  fill_mask();
}

std::span<const int32_t> Guide::advance(int32_t token) {
  note(token);
  if (has_pending()) {  // consumed already, when it was found
    ++forced_next_;
  } else {
    failed_ = !matcher_.consume(token);
    if (failed_ || ended_) return {};
    forced_count_ = matcher_.take_forced(forced_);
    forced_next_ = 0;
  }
  if (matcher_.is_complete() && options_.model_end_tokens.empty()) ended_ = !has_pending();
  if (options_.forcing == Forcing::one_by_one) return {};
  forced_next_ = forced_count_;
  const auto forced = std::span<const int32_t>(forced_).first(static_cast<size_t>(forced_count_));
  std::ranges::for_each(forced, [this](int32_t next) { note(next); });
  if (matcher_.is_complete() && options_.model_end_tokens.empty()) ended_ = true;
  return forced;
}

void Guide::note(int32_t token) {
  ended_ = ended_ || std::ranges::find(options_.model_end_tokens, token) != options_.model_end_tokens.end();
}

void Guide::fill_mask() {
  if (has_pending()) {
    show_only(forced_[static_cast<size_t>(forced_next_)]);
  } else if (!matcher_.fill_mask(mask_)) {
    failed_ = true;
  }
  look_at_ends();
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
  const std::string why = matcher_.error();
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
