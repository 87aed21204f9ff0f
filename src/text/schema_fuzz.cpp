// JSON schemas: a client's error with a reason, or a grammar whose masks and whose matcher agree, and whose answers are JSON.
#include "base/json.h"
#include "text/testing/grammar_walk.h"

using namespace neutrino;

NEUTRINO_FUZZ(schema) {
  const unsigned seed = take_byte(data);
  const auto answer =
      text::testing::walk({.kind = text::GrammarKind::json_schema, .text = std::string(as_text(data))}, seed);
  if (answer) parse_json(*answer);
}
