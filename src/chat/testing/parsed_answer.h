// For tests of the answer parser and its fuzz target: an answer parsed from parts, and what must hold of every result.
#pragma once

#include <algorithm>
#include <cctype>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/answer_parser.h"

namespace neutrino::chat::testing {

struct ParsedAnswer {
  std::vector<ReadPiece> pieces;
  bool failed = false;
};

// The functions that may be called: "weather", "now" and "f", each with parameters of many types.
inline KnownTools weather_tools() {
  const json::object schema =
      parse_json(
          R"({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"},
  "units": {"enum": ["C", "F"]}, "where": {"type": ["string", "null"]}, "tags": {"type": "array"}}})")
          .as_object();
  KnownTools tools;
  for (const char* name : {"weather", "now", "f"}) tools.parameters[name] = schema;
  return tools;
}

// `parts`: UTF-8, whole characters. Checks what the parser says of its progress.
inline ParsedAnswer parse_parts(const std::shared_ptr<const AnswerSyntax>& syntax,
                                std::span<const std::string_view> parts) {
  AnswerParser parser(syntax, "id");
  ParsedAnswer parsed;
  size_t pushed = 0, certain = 0;
  const auto take = [&] {
    for (ReadPiece& piece : parser.take()) {
      check(piece.begin <= piece.end && piece.end <= pushed && piece.begin >= certain,
            "a piece from text that has not come, or whose pieces had all come");
      parsed.pieces.push_back(std::move(piece));
    }
    check(parser.certain() >= certain && parser.certain() <= pushed, "progress goes back, or too far");
    certain = parser.certain();
  };
  for (const std::string_view part : parts) {
    parser.push(part);
    pushed += part.size();
    take();
  }
  parser.finish();
  take();
  check(certain == pushed, "text was left over");
  parsed.failed = parser.failed();
  return parsed;
}

// Pieces of one kind that follow one another become one.
inline std::vector<AnswerPiece> merged(const std::vector<ReadPiece>& pieces) {
  std::vector<AnswerPiece> all;
  for (const ReadPiece& read : pieces) {
    const AnswerPiece& piece = read.piece;
    const bool text =
        piece.kind != AnswerPiece::Kind::call_begin && piece.kind != AnswerPiece::Kind::call_end;
    if (text && !all.empty() && all.back().kind == piece.kind)
      all.back().text += piece.text;
    else
      all.push_back(piece);
  }
  return all;
}

// What it means: r(reasoning) c(content) f{arguments}; and "!" at the end for a failed parse.
inline std::string show(const ParsedAnswer& parsed) {
  std::string out;
  for (const AnswerPiece& piece : merged(parsed.pieces)) switch (piece.kind) {
      case AnswerPiece::Kind::reasoning: out += "r(" + piece.text + ")"; break;
      case AnswerPiece::Kind::content: out += "c(" + piece.text + ")"; break;
      case AnswerPiece::Kind::call_begin: out += piece.name; break;
      case AnswerPiece::Kind::call_arguments: out += piece.text; break;
      case AnswerPiece::Kind::call_end: out += ";";
    }
  return out + (parsed.failed ? "!" : "");
}

// Is a call's whole text of arguments a JSON object? Of what RFC 8259 allows, Boost.JSON refuses escapes of surrogates that
// stand alone (they are made harmless here) and exponents beyond any number.
inline bool is_json_object(std::string text) {
  for (size_t i = 0; i + 3 < text.size(); ++i) {
    if (text[i] != '\\') continue;
    if (text[i + 1] == 'u' && (text[i + 2] | 32) == 'd' &&
        std::string_view("89abcdefABCDEF").find(text[i + 3]) != std::string_view::npos)
      text[i + 2] = '0';
    ++i;
  }
  json::error_code error;
  json::parse_options options;
  options.max_depth = limits::kJsonDepth;
  const json::value value = json::parse(text, error, {}, options);
  return error ? error == json::error::exponent_overflow : value.is_object();
}

// ---- nothing is lost

// What is passed over, the longest first.
inline std::vector<std::string> markup_texts(const ToolSyntax* calls) {
  std::vector<std::string> texts = {"name",
                                    "arguments",
                                    "parameters",
                                    "type",
                                    "function",
                                    "<function=",
                                    "</function>",
                                    "id",
                                    "json",
                                    "```",
                                    "<parameter=",
                                    "assistant",
                                    "analysis",
                                    "</parameter>",
                                    "final",
                                    "commentary",
                                    "to=functions.",
                                    "{",
                                    "}",
                                    "[",
                                    "]",
                                    "(",
                                    ")",
                                    "=",
                                    ":",
                                    ",",
                                    ";",
                                    "\"",
                                    "'",
                                    ">"};
  const auto add = [&](std::string_view text) {
    if (!text.empty()) texts.emplace_back(text);
  };
  if (calls != nullptr)
    for (const std::string_view marker : calls->markers) add(marker);
  for (const std::string_view marker : kHarmonySyntax.markers) add(marker);
  for (const ReasoningTags& tags : reasoning_tags()) {
    add(tags.open);
    add(tags.close);
  }
  std::ranges::sort(texts, std::greater(), &std::string::size);
  return texts;
}

// A key of a call may be written with escapes: the character that "\u0061" at the beginning of `text` stands for, if it is one of
// ASCII, else 0.
inline char escaped_character(std::string_view text) {
  if (!text.starts_with("\\u00") || text.size() < 6) return 0;
  int code = 0;
  for (const char digit : text.substr(4, 2)) {
    if (!std::isxdigit(static_cast<unsigned char>(digit))) return 0;
    code =
        code * 16 + (std::isdigit(static_cast<unsigned char>(digit)) ? digit - '0' : (digit | 32) - 'a' + 10);
  }
  return code < 0x80 ? static_cast<char>(code) : '\0';
}

// What no piece shows, without white space; a zero byte stands where something is shown.
inline std::string hidden_text(std::string_view raw, const ParsedAnswer& parsed) {
  std::vector<bool> shown(raw.size(), false);
  for (const ReadPiece& piece : parsed.pieces)
    for (size_t i = piece.begin; i < piece.end; ++i) shown[i] = true;
  std::string hidden;
  for (size_t i = 0; i < raw.size(); ++i) {
    const char escaped = shown[i] ? '\0' : escaped_character(raw.substr(i));
    if (shown[i])
      hidden += '\0';
    else if (escaped)
      hidden += escaped, i += 5;
    else if (!is_space(raw[i]))
      hidden += raw[i];
  }
  return hidden;
}

// Of the raw text, what is in no piece, is no white space and belongs to no markup.
inline std::string lost_text(std::string_view raw, const ParsedAnswer& parsed,
                             const std::vector<std::string>& markup) {
  const std::string hidden = hidden_text(raw, parsed);
  std::string lost;
  for (std::string_view rest = hidden; !rest.empty();) {
    const std::string_view before = rest;
    if (rest.front() == '\0') rest.remove_prefix(1);
    for (const std::string_view id :
         {"[CALL_ID]", "\"id\":\""}) {  // of the model's own making: ours takes its place
      if (!rest.starts_with(id)) continue;
      rest.remove_prefix(id.size());
      while (!rest.empty() && std::isalnum(static_cast<unsigned char>(rest.front()))) rest.remove_prefix(1);
    }
    if (const auto text = std::ranges::find_if(markup, [&](auto& known) { return rest.starts_with(known); });
        text != markup.end())
      rest.remove_prefix(text->size());
    if (rest.size() == before.size()) {
      lost += rest.front();
      rest.remove_prefix(1);
    }
  }
  return lost;
}

}  // namespace neutrino::chat::testing
