// Grammars of every kind but JSON schemas: a client's error with a reason, or a grammar whose masks and whose matcher agree. The
// first byte chooses the kind.
#include "text/testing/grammar_walk.h"

using namespace neutrino;
using text::GrammarKind;

NEUTRINO_FUZZ(grammar) {
  static constexpr GrammarKind kKinds[] = {GrammarKind::lark, GrammarKind::gbnf, GrammarKind::regex,
                                           GrammarKind::choice, GrammarKind::structural_tag};
  const unsigned seed = take_byte(data);
  text::testing::walk({.kind = kKinds[seed % std::size(kKinds)], .text = std::string(as_text(data))}, seed);
}
