// JSON character by character: where does an object end, and is it one?
#pragma once

#include <cstdint>
#include <string>

namespace neutrino::chat {

// For one object. Depth is bounded by limits::kJsonDepth.
class JsonScanner {
 public:
  enum class Step : uint8_t { more, complete, bad };
  // The next character. `complete`: it was the object's last one. After `bad` nothing is said about more.
  Step step(char character);
  bool in_string() const { return state_ == State::string; }

 private:
  enum class State : uint8_t {
    start,       // of the whole
    value,       // must come
    first_key,   // or the end of the object
    first_item,  // or the end of the array
    key,         // must come
    colon,
    after,  // a value: "," or the end of what it stands in
    string,
    escape,
    hex,
    number,
    literal,
    complete
  };
  // Where a number is, in the words of RFC 8259.
  enum class Number : uint8_t {
    minus,
    zero,
    integer,
    point,
    fraction,
    exponent,
    exponent_sign,
    exponent_digits
  };

  Step begin_value(char character);
  Step close(char opening);
  Step step_string(char character);
  Step step_number(char character);
  Step step_literal(char character);
  Step step_after(char character);
  static bool number_step(Number& number, char character);

  State state_ = State::start;
  Number number_ = Number::minus;
  bool string_is_key_ = false;
  int hex_left_ = 0;
  const char* literal_ = nullptr;  // what must still come of true, false or null
  std::string open_;               // the brackets that are open
};

}  // namespace neutrino::chat
