#include "chat/json_scanner.h"

#include <string_view>

#include "base/limits.h"

namespace neutrino::chat {
namespace {

bool space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool hex_digit(char c) { return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

}  // namespace

JsonScanner::Step JsonScanner::step(char c) {
  switch (state_) {
    case State::string:
    case State::escape:
    case State::hex: return step_string(c);
    case State::number: return step_number(c);
    case State::literal: return step_literal(c);
    case State::complete: return Step::bad;
    default: break;
  }
  if (space(c)) return state_ == State::start ? Step::bad : Step::more;
  switch (state_) {
    case State::start: return c == '{' ? begin_value(c) : Step::bad;
    case State::value: return begin_value(c);
    case State::first_item: return c == ']' ? close('[') : begin_value(c);
    case State::first_key:
      if (c == '}') return close('{');
      [[fallthrough]];
    case State::key:
      if (c != '"') return Step::bad;
      state_ = State::string;
      string_is_key_ = true;
      return Step::more;
    case State::colon: state_ = State::value; return c == ':' ? Step::more : Step::bad;
    default: return step_after(c);
  }
}

JsonScanner::Step JsonScanner::begin_value(char c) {
  if (c == '{' || c == '[') {
    if (static_cast<int64_t>(open_.size()) >= limits::kJsonDepth) return Step::bad;
    open_ += c;
    state_ = c == '{' ? State::first_key : State::first_item;
    return Step::more;
  }
  if (c == '"') {
    state_ = State::string;
    string_is_key_ = false;
    return Step::more;
  }
  if (c == '-' || digit(c)) {
    state_ = State::number;
    number_ = c == '-' ? Number::minus : c == '0' ? Number::zero : Number::integer;
    return Step::more;
  }
  literal_ = c == 't' ? "rue" : c == 'f' ? "alse" : c == 'n' ? "ull" : nullptr;
  if (literal_ == nullptr) return Step::bad;
  state_ = State::literal;
  return Step::more;
}

JsonScanner::Step JsonScanner::close(char opening) {
  if (open_.empty() || open_.back() != opening) return Step::bad;
  open_.pop_back();
  state_ = open_.empty() ? State::complete : State::after;
  return open_.empty() ? Step::complete : Step::more;
}

JsonScanner::Step JsonScanner::step_after(char c) {
  if (c == '}') return close('{');
  if (c == ']') return close('[');
  if (c != ',') return Step::bad;
  state_ = open_.back() == '{' ? State::key : State::value;
  return Step::more;
}

JsonScanner::Step JsonScanner::step_string(char c) {
  if (state_ == State::hex) {
    if (!hex_digit(c)) return Step::bad;
    if (--hex_left_ == 0) state_ = State::string;
    return Step::more;
  }
  if (state_ == State::escape) {
    if (std::string_view("\"\\/bfnrtu").find(c) == std::string_view::npos) return Step::bad;
    state_ = c == 'u' ? State::hex : State::string;
    hex_left_ = 4;
    return Step::more;
  }
  if (static_cast<unsigned char>(c) < 0x20) return Step::bad;
  if (c == '\\') state_ = State::escape;
  if (c == '"') state_ = string_is_key_ ? State::colon : State::after;
  return Step::more;
}

bool JsonScanner::number_step(Number& number, char c) {
  const auto to = [&](Number next) { return number = next, true; };
  switch (number) {
    case Number::minus: return digit(c) && to(c == '0' ? Number::zero : Number::integer);
    case Number::integer:
      if (digit(c)) return true;
      [[fallthrough]];
    case Number::zero:
      return (c == '.' && to(Number::point)) || ((c == 'e' || c == 'E') && to(Number::exponent));
    case Number::point: return digit(c) && to(Number::fraction);
    case Number::fraction: return digit(c) || ((c == 'e' || c == 'E') && to(Number::exponent));
    case Number::exponent:
      return (digit(c) && to(Number::exponent_digits)) ||
             ((c == '+' || c == '-') && to(Number::exponent_sign));
    case Number::exponent_sign: return digit(c) && to(Number::exponent_digits);
    case Number::exponent_digits: return digit(c);
  }
  return false;
}

JsonScanner::Step JsonScanner::step_number(char c) {
  if (number_step(number_, c)) return Step::more;
  const bool whole = number_ == Number::zero || number_ == Number::integer || number_ == Number::fraction ||
                     number_ == Number::exponent_digits;
  if (!whole) return Step::bad;
  state_ = State::after;
  return space(c) ? Step::more : step_after(c);
}

JsonScanner::Step JsonScanner::step_literal(char c) {
  if (c != *literal_) return Step::bad;
  if (*++literal_ == '\0') state_ = State::after;
  return Step::more;
}

}  // namespace neutrino::chat
