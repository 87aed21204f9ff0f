// JSON schemas: a client's error with a reason, or a grammar whose masks and whose matcher agree, and whose answers are JSON.
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/testing/grammar_walk.h"

using namespace neutrino;

namespace {

// JSON bounds no exponent, its readers do. Three digits stay: enough for "\\u00e1", where they are no exponent.
std::string with_short_exponents(std::string_view text) {
  const auto is = [](char c, std::string_view set) { return set.find(c) != std::string_view::npos; };
  std::string result;
  int left = -1;  // digits that may still come; -1: not in an exponent
  for (const char c : text) {
    if (is(c, "eE"))
      left = 3;
    else if (!is(c, "0123456789") && !(left == 3 && is(c, "+-")))
      left = -1;
    else if (left == 0)
      continue;
    else if (left > 0 && !is(c, "+-"))
      --left;
    result += c;
  }
  return result;
}

}  // namespace

NEUTRINO_FUZZ(schema) {
  const unsigned seed = take_byte(data);
  const auto answer =
      text::testing::walk({.kind = text::GrammarKind::json_schema, .text = std::string(as_text(data))}, seed);
  if (answer) parse_json(with_short_exponents(*answer));
}
