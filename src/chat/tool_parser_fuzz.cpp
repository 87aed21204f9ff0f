// Answers with reasoning and tool calls in every syntax: whatever a model writes, and however it is cut, the pieces are the same,
// nothing is lost, and a call that was read without a fault has a JSON object as its arguments.
//
// The first byte chooses the syntax, the second the reasoning. 0xFF, which no UTF-8 has, is a cut; a text without one comes
// character by character.
#include "base/testing/fuzz.h"
#include "chat/testing/parsed_answer.h"
#include "tokenizer/utf8.h"

using namespace neutrino;
using namespace neutrino::chat;
using Kind = AnswerPiece::Kind;

namespace {

struct Dialect {
  std::shared_ptr<AnswerSyntax> syntax = std::make_shared<AnswerSyntax>();
  std::vector<std::string> markup;
};

// Every syntax and none, with every kind of reasoning and none, from its beginning or inside.
std::vector<Dialect> make_dialects() {
  std::vector<const ToolSyntax*> calls{std::begin(kToolSyntaxes), std::end(kToolSyntaxes)};
  calls.push_back(nullptr);
  std::vector<Dialect> dialects;
  for (const ToolSyntax* syntax : calls)
    for (size_t i = 0; i <= 2 * reasoning_tags().size(); ++i) {
      Dialect& dialect = dialects.emplace_back();
      dialect.markup = chat::testing::markup_texts(syntax);
      *dialect.syntax = {.reasoning = i == 0 ? nullptr : &reasoning_tags()[(i - 1) / 2],
                         .in_reasoning = i > 0 && i % 2 == 0,
                         .calls = syntax,
                         .tools = chat::testing::weather_tools()};
    }
  return dialects;
}

// Whole characters, as a TextStream gives them out.
struct Text {
  std::string whole;
  std::vector<size_t> cuts;  // where parts end
};

Text read_text(std::string_view bytes) {
  Text text;
  std::vector<size_t> characters;
  while (!bytes.empty()) {
    const tokenizer::Utf8Char character = tokenizer::first_char(bytes);
    const bool cut = bytes.front() == '\xFF';
    if (cut)
      text.cuts.push_back(text.whole.size());
    else
      text.whole +=
          character.state == tokenizer::Utf8::valid ? bytes.substr(0, character.length) : "\xEF\xBF\xBD";
    bytes.remove_prefix(character.length);
    characters.push_back(text.whole.size());
  }
  if (text.cuts.empty()) text.cuts = characters;
  text.cuts.push_back(text.whole.size());
  return text;
}

std::vector<std::string_view> parts_of(const Text& text) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (const size_t end : text.cuts) {
    parts.push_back(std::string_view(text.whole).substr(begin, end - begin));
    begin = end;
  }
  return parts;
}

void check_pieces(std::string_view raw, const chat::testing::ParsedAnswer& parsed) {
  bool in_call = false;
  for (const ReadPiece& read : parsed.pieces) {
    const AnswerPiece& piece = read.piece;
    const bool text = piece.kind == Kind::content || piece.kind == Kind::reasoning;
    if (text) check(piece.text == raw.substr(read.begin, read.end - read.begin), "a piece of another text");
    if (piece.kind == Kind::call_begin)
      check(!in_call && !piece.call_id.empty() && !piece.name.empty(), "a call in a call");
    if (piece.kind == Kind::call_arguments || piece.kind == Kind::call_end)
      check(in_call, "arguments without a call");
    if (text) check(!in_call, "text in a call");
    if (!text) in_call = piece.kind != Kind::call_end;
  }
  check(!in_call, "a call without an end");
}

}  // namespace

NEUTRINO_FUZZ(tool_parser) {
  static const std::vector<Dialect> dialects = make_dialects();
  const size_t kinds = 2 * reasoning_tags().size() + 1, syntax = take_byte(data) % (dialects.size() / kinds);
  const Dialect& dialect = dialects[syntax * kinds + take_byte(data) % kinds];
  const Text text = read_text(as_text(data));
  const std::string_view all[] = {text.whole};
  const auto whole = chat::testing::parse_parts(dialect.syntax, all);
  const auto parts = chat::testing::parse_parts(dialect.syntax, parts_of(text));
  check(chat::testing::show(whole) == chat::testing::show(parts), "the pieces depend on the cuts");
  check_pieces(text.whole, whole);
  check_pieces(text.whole, parts);
  check(chat::testing::lost_text(text.whole, whole, dialect.markup).empty(), "text was lost");
  if (whole.failed) return;
  for (const AnswerPiece& piece : chat::testing::merged(whole.pieces))
    if (piece.kind == Kind::call_arguments)
      check(chat::testing::is_json_object(piece.text), "arguments that are no object");
}
