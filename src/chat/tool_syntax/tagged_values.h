// Calls whose arguments stand one by one between tags, and become a JSON object. What Qwen3-Coder and GLM have in common.
#pragma once

#include <string>

#include "chat/answer_reading.h"

namespace neutrino::chat {

// Is this parameter's value plain text between its tags? Only if it can be nothing but a string; others are JSON.
bool is_text_parameter(const json::object* parameters, std::string_view name);

class TaggedArguments {
 public:
  explicit TaggedArguments(Reading& r) : r_(r) {}
  // The value of `key`, whose text stands at [begin, end), up to `close`, which is passed over. A value that ought to be JSON and
  // is not becomes a string.
  Reader<> read(const std::string& key, size_t begin, size_t end, std::string_view close);
  void finish();

 private:
  static Reader<> read_text(Reading& r, std::string_view close);
  static Reader<> read_json(Reading& r, std::string_view close);
  static Reader<> read_value(Reading& r, bool text, std::string_view close);

  Reading& r_;
  bool any_ = false;
};

}  // namespace neutrino::chat
