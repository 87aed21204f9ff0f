// What readers of answers read from and write to: the raw text of one answer, and its pieces.
//
// Text that a reader passes over is markup: tags, the names of keys. Everything else it hands out. A reader that meets what it
// cannot read throws Malformed, and what was not handed out yet becomes content: nothing that the model wrote is lost.
// White space belongs to the markup beside it: it is content only between characters of content, and before the end of an
// answer without calls.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/chat_model.h"
#include "chat/reader.h"

namespace neutrino::chat {

struct Malformed {};  // thrown by readers

// The functions that an answer may call.
struct KnownTools {
  std::map<std::string, json::object, std::less<>> parameters = {};  // their JSON schemas, by name
  bool all = false;                                                  // any name is one (tests)
};

// A piece, and where in the raw text it was made from: [begin, end). Content and reasoning are just that text.
struct ReadPiece {
  AnswerPiece piece;
  size_t begin = 0, end = 0;
};

// One thread at a time.
class Reading final : public TextSource {
 public:
  // `tools` outlives this object. Ids of calls are made from `id_seed` and the number of the call.
  Reading(const KnownTools& tools, std::string id_seed);
  Reading(const Reading&) = delete;

  // ---- for readers
  void take_content();    // the next character, which was peeked at, is content
  void take_plain();      // the same where no call can follow: white space does not wait
  void take_reasoning();  // or it is reasoning
  void begin_reasoning();
  void end_reasoning();
  bool at_start() const { return !started_; }  // has there been neither content nor a call?

  // What comes may turn out to be content after all, up to the next commit(): then give_up(). `failed`: it had looked like a call.
  void attempt();
  void commit();
  void succeed();  // the attempt is over, and all of it was read
  enum class Failed : bool { no, yes };
  void give_up(Failed failed);

  // A call of the function whose name stands at [begin, end). Throws Malformed if there is no such function.
  void begin_call(const std::string& name, size_t begin, size_t end);
  // More of its arguments, made from the raw text at [begin, end). Commits what was read.
  void add_arguments(std::string_view json, size_t begin, size_t end);
  void end_call();
  const json::object* parameters() const { return parameters_; }  // the open call's schema; may be absent

  // ---- for the parser
  void end();  // no reader will go on
  std::vector<ReadPiece> take_pieces();
  size_t certain() const;  // the raw text before it is decided
  bool in_reasoning(size_t begin,
                    size_t end) const;  // does raw text at [begin, end) stand between reasoning tags?
  bool failed() const { return failed_; }
  bool called() const { return calls_ > 0; }

 private:
  void add(AnswerPiece::Kind kind, std::string_view text, size_t begin, size_t end);
  void take(AnswerPiece::Kind kind);
  void settle_space(AnswerPiece::Kind kind);

  const KnownTools& tools_;
  const std::string id_seed_;
  std::vector<ReadPiece> pieces_;
  std::optional<size_t> space_;    // where white space begins that may be markup; it reaches to position()
  std::optional<size_t> attempt_;  // where what may become content begins
  std::vector<std::pair<size_t, size_t>> reasoning_;  // raw spans; the last one may be open
  bool reasoning_open_ = false, started_ = false, failed_ = false, call_open_ = false;
  int64_t calls_ = 0;
  const json::object* parameters_ = nullptr;
};

// ---- small readers that others are made of. All throw Malformed where the text is something else.

Reader<bool> is_next(Reading& r, std::string_view text, size_t ahead = 0);  // passes over nothing
Reader<bool> skip_if(Reading& r, std::string_view text);
Reader<> expect(Reading& r, std::string_view text);
Reader<> skip_space(Reading& r);
// The text up to (not with) the first of `ends`, at most `bytes_max`; the end stays.
Reader<std::string> read_until(Reading& r, std::string_view ends, size_t bytes_max);
bool is_space(int character);

}  // namespace neutrino::chat
