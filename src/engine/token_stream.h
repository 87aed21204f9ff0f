// What the engine thread hands to the consumer of one sequence: its tokens, and how it ended.
//
// The size is known when the request is made (max_tokens), so all storage is made then: the engine thread writes a record,
// publishes it with one atomic store, and never waits for a slow consumer. Untouched storage costs no memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/error.h"
#include "chat/chat_model.h"

namespace neutrino::engine {

class TokenStream {
 public:
  TokenStream(int64_t max_tokens, int64_t top_per_token)
      : top_per_token_(top_per_token),
        records_(std::make_unique_for_overwrite<chat::TokenLogprob[]>(static_cast<size_t>(max_tokens))),
        tops_(std::make_unique_for_overwrite<chat::TokenLogprob[]>(
            static_cast<size_t>(max_tokens * top_per_token))) {}

  // ---- engine side
  std::span<chat::TokenLogprob> next_top() {
    return top_slot(size());
  }  // where the next token's alternatives go
  void push(chat::TokenLogprob record) {
    const int64_t index = size();
    records_[static_cast<size_t>(index)] = record;
    size_.store(index + 1, std::memory_order_release);
    announce();
  }
  void finish(chat::FinishReason reason, const Error* error = nullptr) {
    reason_ = reason;
    if (error != nullptr) error_ = *error;
    finished_.store(true, std::memory_order_release);
    announce();
  }

  // Something beside tokens and the end is new.
  void announce() {
    version_.fetch_add(1, std::memory_order_release);
    version_.notify_all();
  }

  // ---- consumer side. Read finished() before size(): a finished stream gets no more tokens.
  bool finished() const { return finished_.load(std::memory_order_acquire); }
  int64_t size() const { return size_.load(std::memory_order_acquire); }
  chat::TokenLogprob record(int64_t index) const { return records_[static_cast<size_t>(index)]; }
  std::span<const chat::TokenLogprob> top(int64_t index) const {
    return const_cast<TokenStream*>(this)->top_slot(index);
  }
  chat::FinishReason reason() const { return reason_; }         // of a finished stream
  const std::optional<Error>& error() const { return error_; }  // of a finished stream

  // Blocks until the stream differs from what it was when version() was read.
  uint32_t version() const { return version_.load(std::memory_order_acquire); }
  void wait(uint32_t version) const { version_.wait(version, std::memory_order_acquire); }

 private:
  std::span<chat::TokenLogprob> top_slot(int64_t index) {
    return {tops_.get() + index * top_per_token_, static_cast<size_t>(top_per_token_)};
  }
  int64_t top_per_token_;
  std::unique_ptr<chat::TokenLogprob[]> records_;  // (max_tokens)
  std::unique_ptr<chat::TokenLogprob[]> tops_;     // (max_tokens, top_per_token)
  std::atomic<int64_t> size_{0};
  std::atomic<bool> finished_{false};
  std::atomic<uint32_t> version_{0};
  chat::FinishReason reason_ = chat::FinishReason::stop;
  std::optional<Error> error_;
};

}  // namespace neutrino::engine
