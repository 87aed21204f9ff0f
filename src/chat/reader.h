// Parsers of a text that comes in pieces, written as if all of it were there.
//
// A Reader is a coroutine over a TextSource: where it looks at a character that has not come yet it waits, and goes on when
// it has come. What it does depends on the characters alone and not on how they were cut. Readers call each other with
// co_await and return values or throw; the text keeps the list of those who wait, the innermost first.
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace neutrino::chat {

// One thread at a time.
class TextSource {
 public:
  static constexpr int kEnd = -1;

  struct Peek {
    TextSource& source;
    size_t ahead;
    bool await_ready() const { return source.ended_ || source.has(ahead); }
    void await_suspend(std::coroutine_handle<> reader) const {
      source.wanted_ = ahead;
      source.waiting_.push_back(reader);
    }
    int await_resume() const {
      return source.has(ahead) ? static_cast<unsigned char>(source.text_[source.at_ + ahead]) : kEnd;
    }
  };
  Peek peek(size_t ahead = 0) { return {*this, ahead}; }  // the next character or one behind it, or kEnd
  void skip(size_t count = 1) { at_ += count; }           // over so many that were peeked at
  size_t position() const { return base_ + at_; }         // of the next character in the whole text

  void push(std::string_view text) {
    text_ += text;
    if (has(wanted_)) run();
  }
  void finish() {
    ended_ = true;
    run();
  }

 protected:
  ~TextSource() = default;
  bool has(size_t ahead) const { return at_ + ahead < text_.size(); }
  // The text at [begin, end), not forgotten.
  std::string_view raw(size_t begin, size_t end) const {
    return std::string_view(text_).substr(begin - base_, end - begin);
  }
  // What is before `position` is looked at no more.
  void forget(size_t position) {
    text_.erase(0, position - base_);
    at_ -= position - base_;
    base_ = position;
  }

 private:
  template <typename T>
  friend class Reader;

  void run() {
    const auto readers = std::exchange(waiting_, {});
    for (size_t i = 0; i < readers.size(); ++i) {
      readers[i].resume();
      if (readers[i].done()) continue;
      waiting_.insert(waiting_.end(), readers.begin() + static_cast<ptrdiff_t>(i) + 1, readers.end());
      return;
    }
  }

  std::string text_;  // from base_ on
  size_t base_ = 0;
  size_t at_ = 0;  // in text_
  bool ended_ = false;
  std::vector<std::coroutine_handle<>> waiting_;
  size_t wanted_ = 0;  // how far ahead the innermost of them looks
};

// What a Reader returns. The first parameter of the coroutine is the TextSource (or what derives from it).
template <typename T>
struct ReaderValue {
  std::optional<T> value;
  void return_value(T v) { value.emplace(std::move(v)); }
  T take() { return std::move(*value); }
};
template <>
struct ReaderValue<void> {
  void return_void() {}
  void take() {}
};

template <typename T = void>
class [[nodiscard]] Reader {
 public:
  struct promise_type : ReaderValue<T> {
    template <typename... Rest>
    explicit promise_type(TextSource& text, Rest&&...) : source(text) {}
    Reader get_return_object() { return Reader(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void unhandled_exception() { error = std::current_exception(); }
    TextSource& source;
    std::exception_ptr error = {};
  };

  Reader(Reader&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Reader& operator=(Reader&&) = delete;
  ~Reader() {
    if (handle_) handle_.destroy();
  }

  // Runs to the end of the text, or to where it has to wait for more.
  void start() { handle_.resume(); }

  bool await_ready() {
    handle_.resume();
    return handle_.done();
  }
  void await_suspend(std::coroutine_handle<> caller) { handle_.promise().source.waiting_.push_back(caller); }
  T await_resume() {
    if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
    return handle_.promise().take();
  }

 private:
  explicit Reader(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

}  // namespace neutrino::chat
