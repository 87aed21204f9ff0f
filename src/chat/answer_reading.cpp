#include "chat/answer_reading.h"

#include "base/sha256.h"

namespace neutrino::chat {
namespace {

using Kind = AnswerPiece::Kind;

constexpr size_t kCallIdCharacters = 24;

// The same for the same answer, streamed or not; letters and digits, as all templates take them.
std::string call_id(const std::string& seed, int64_t call) {
  return "call_" + to_hex(sha256(fmt::format("{}\n{}", seed, call))).substr(0, kCallIdCharacters);
}

}  // namespace

bool is_space(int character) {
  return character == ' ' || character == '\n' || character == '\t' || character == '\r';
}

Reading::Reading(const KnownTools& tools, std::string id_seed)
    : tools_(tools), id_seed_(std::move(id_seed)) {}

void Reading::add(Kind kind, std::string_view text, size_t begin, size_t end) {
  if (!pieces_.empty()) {
    ReadPiece& last = pieces_.back();
    if (last.piece.kind == kind && last.end == begin && last.piece.call == (call_open_ ? calls_ - 1 : 0)) {
      last.piece.text += text;
      last.end = end;
      return;
    }
  }
  pieces_.push_back(
      {{.kind = kind, .text = std::string(text), .call = call_open_ ? calls_ - 1 : 0}, begin, end});
}

// White space waits for what follows it.
void Reading::take(Kind kind) {
  const size_t begin = position();
  const std::string_view character = raw(begin, begin + 1);
  if (is_space(character[0])) {
    if (!space_) space_ = begin;
    skip();
    return;
  }
  settle_space(kind);
  add(kind, raw(begin, begin + 1), begin, begin + 1);
  skip();
}

void Reading::settle_space(Kind kind) {
  if (!space_) return;
  add(kind, raw(*space_, position()), *space_, position());
  space_.reset();
}

void Reading::take_content() {
  take(Kind::content);
  if (!space_) started_ = true;
}

void Reading::take_plain() {
  settle_space(Kind::content);
  add(Kind::content, raw(position(), position() + 1), position(), position() + 1);
  skip();
  started_ = true;
}

// White space at the beginning of reasoning and at its end is part of the tags.
void Reading::take_reasoning() { take(Kind::reasoning); }

void Reading::begin_reasoning() {
  space_.reset();
  reasoning_.emplace_back(position(), position());
  reasoning_open_ = true;
}

void Reading::end_reasoning() {
  space_.reset();
  if (reasoning_open_) reasoning_.back().second = position();
  reasoning_open_ = false;
}

void Reading::attempt() { attempt_ = space_.value_or(position()); }

void Reading::commit() {
  space_.reset();
  attempt_ = position();
}

void Reading::succeed() {
  space_.reset();
  attempt_.reset();
}

void Reading::give_up(Failed failed) {
  failed_ = failed_ || failed == Failed::yes || call_open_;
  if (call_open_) end_call();
  const size_t begin = attempt_.value_or(position());
  attempt_.reset();
  space_.reset();
  if (begin == position()) return;
  add(Kind::content, raw(begin, position()), begin, position());
  started_ = true;
}

void Reading::begin_call(const std::string& name, size_t begin, size_t end) {
  const auto known = tools_.parameters.find(name);
  if (name.empty() || (known == tools_.parameters.end() && !tools_.all)) throw Malformed();
  parameters_ = known == tools_.parameters.end() ? nullptr : &known->second;
  started_ = call_open_ = true;
  pieces_.push_back(
      {{.kind = Kind::call_begin, .call = calls_, .call_id = call_id(id_seed_, calls_), .name = name},
       begin,
       end});
  ++calls_;
  commit();
}

void Reading::add_arguments(std::string_view text, size_t begin, size_t end) {
  add(Kind::call_arguments, text, begin, end);
  commit();
}

void Reading::end_call() {
  pieces_.push_back({{.kind = Kind::call_end, .call = calls_ - 1}, position(), position()});
  call_open_ = false;
  parameters_ = nullptr;
}

void Reading::end() {
  if (call_open_) end_call();
  if (space_ && !called() && !reasoning_open_) settle_space(Kind::content);
  space_.reset();
  if (reasoning_open_) reasoning_.back().second = position();
  reasoning_open_ = false;
  attempt_.reset();
}

size_t Reading::certain() const {
  return std::min(space_.value_or(position()), attempt_.value_or(position()));
}

std::vector<ReadPiece> Reading::take_pieces() {
  forget(certain());
  return std::exchange(pieces_, {});
}

bool Reading::in_reasoning(size_t begin, size_t end) const {
  for (const auto& [first, last] : reasoning_) {
    const bool open = reasoning_open_ && first == reasoning_.back().first;
    if (end > first && (open || begin < last)) return true;
  }
  return false;
}

Reader<bool> is_next(Reading& r, std::string_view text, size_t ahead) {
  for (size_t i = 0; i < text.size(); ++i) {
    const int character = co_await r.peek(ahead + i);
    if (character != static_cast<unsigned char>(text[i])) co_return false;
  }
  co_return true;
}

Reader<bool> skip_if(Reading& r, std::string_view text) {
  const bool next = co_await is_next(r, text);
  if (next) r.skip(text.size());
  co_return next;
}

Reader<> expect(Reading& r, std::string_view text) {
  const bool next = co_await skip_if(r, text);
  if (!next) throw Malformed();
}

Reader<> skip_space(Reading& r) {
  for (;;) {
    const int character = co_await r.peek();
    if (!is_space(character)) co_return;
    r.skip();
  }
}

Reader<std::string> read_until(Reading& r, std::string_view ends, size_t bytes_max) {
  std::string text;
  for (;;) {
    const int character = co_await r.peek();
    if (character == Reading::kEnd || text.size() == bytes_max) throw Malformed();
    if (ends.find(static_cast<char>(character)) != std::string_view::npos) co_return text;
    text += static_cast<char>(character);
    r.skip();
  }
}

}  // namespace neutrino::chat
