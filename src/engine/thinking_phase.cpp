#include "engine/thinking_phase.h"

#include <algorithm>

#include "base/error.h"

namespace neutrino::engine {
namespace {

constexpr double kSoftShare = 0.75;  // of the budget: from there on the tag is made likely
constexpr float kPressureMost = 12;  // on its logit, where the budget ends
constexpr std::string_view kSpace = " \n\t\r";

}  // namespace

ThinkingPhase::ThinkingPhase(std::shared_ptr<const chat::ThinkingTokens> tokens, ThinkingOptions options)
    : tokens_(std::move(tokens)), options_(options), state_(options.inside ? State::inside : State::outside) {
  forced_.reserve(tokens_->close_tokens.size() + tokens_->after_tokens.size());
  tail_.reserve(1024);
  close_if_spent();
}

int32_t ThinkingPhase::forced() const {
  check(state_ == State::closing, "nothing is forced");
  return forced_[next_forced_];
}

void ThinkingPhase::advance(int32_t token) {
  if (state_ == State::done) return;
  if (state_ == State::closing) {
    if (++next_forced_ == forced_.size()) end();
    return;
  }
  tail_ += tokens_->tokenizer->bytes(token);
  if (state_ == State::outside) {
    look_for_open();
    return;
  }
  ++thought_;
  at_sentence_end_ = tokens_->ends_sentence[static_cast<size_t>(token)];
  look_for_close();
  close_if_spent();
}

// Reasoning begins with the answer, or not at all.
void ThinkingPhase::look_for_open() {
  if (tokens_->in_grammar) {
    look_for_message();
    return;
  }
  const size_t begin = tail_.find_first_not_of(kSpace);
  if (begin == std::string::npos) return;
  const std::string_view text = std::string_view(tail_).substr(begin);
  if (text.starts_with(tokens_->open)) {
    state_ = State::inside;
    tail_.erase(0, begin + tokens_->open.size());
    if (!tail_.empty()) ++thought_;  // a token that holds the tag and more
    close_if_spent();
  } else if (!std::string_view(tokens_->open).starts_with(text)) {
    state_ = State::done;
  }
}

// In harmony there may be several, anywhere.
void ThinkingPhase::look_for_message() {
  const size_t at = tail_.find(tokens_->open);
  if (at != std::string::npos) {
    state_ = State::inside;
    tail_.clear();
    close_if_spent();
  } else if (tail_.size() > tokens_->open.size()) {
    tail_.erase(0, tail_.size() - tokens_->open.size());
  }
}

void ThinkingPhase::end() {
  state_ = tokens_->in_grammar ? State::outside : State::done;
  tail_.clear();
}

void ThinkingPhase::look_for_close() {
  const size_t at = tail_.find(tokens_->close);
  if (at == std::string::npos) {
    if (tail_.size() > tokens_->close.size()) tail_.erase(0, tail_.size() - tokens_->close.size());
    return;
  }
  const bool spaced = at + tokens_->close.size() < tail_.size();
  end();
  if (options_.before_grammar && !tokens_->in_grammar && !spaced) force(tokens_->after_tokens);
}

void ThinkingPhase::close_if_spent() {
  if (state_ != State::inside || !options_.budget || thought_ < *options_.budget) return;
  force(tokens_->close_tokens);
  if (options_.before_grammar && !tokens_->in_grammar)
    forced_.insert(forced_.end(), tokens_->after_tokens.begin(), tokens_->after_tokens.end());
}

void ThinkingPhase::force(const std::vector<int32_t>& tokens) {
  if (tokens.empty()) return;
  forced_ = tokens;
  next_forced_ = 0;
  state_ = State::closing;
}

float ThinkingPhase::pressure() const {
  if (state_ != State::inside || !options_.budget || !at_sentence_end_) return 0;
  const double budget = static_cast<double>(*options_.budget), soft = kSoftShare * budget;
  const double over = static_cast<double>(thought_) - soft;
  return over <= 0 ? 0 : kPressureMost * static_cast<float>(over / (budget - soft));
}

}  // namespace neutrino::engine
