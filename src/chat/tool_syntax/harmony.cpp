// OpenAI's harmony, of gpt-oss: an answer is messages in channels.
//   <|channel|>analysis<|message|>reasoning<|end|>
//   <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>
//   <|start|>assistant<|channel|>final<|message|>content<|return|>
// The recipient may stand before the channel as well. Commentary without a recipient is content that precedes calls.
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

constexpr std::string_view kFunctions = "to=functions.", kMessage = "<|message|>";
constexpr size_t kHeaderBytes = 512;

struct Header {
  std::string channel = {}, function = {};
  size_t function_begin = 0, function_end = 0;
};

// Passes over the word that text goes on with behind `before`, if it does; else empty.
std::string_view skip_word(std::string_view& text, std::string_view before) {
  if (!text.starts_with(before)) return {};
  text.remove_prefix(before.size());
  const std::string_view word = text.substr(0, text.find_first_of(" <\n"));
  text.remove_prefix(word.size());
  return word;
}

// "assistant<|channel|>commentary to=functions.f <|constrain|>json", which begins at `begin`.
Header parse_header(const std::string& text, size_t begin) {
  Header header;
  std::string_view rest = text;
  if (rest.starts_with("assistant")) rest.remove_prefix(9);
  while (!rest.empty()) {
    const size_t size = rest.size();
    if (is_space(rest.front())) rest.remove_prefix(1);
    if (header.function.empty()) {
      header.function = skip_word(rest, kFunctions);
      header.function_end = begin + text.size() - rest.size();
      header.function_begin = header.function_end - header.function.size();
    }
    if (header.channel.empty()) header.channel = skip_word(rest, "<|channel|>");
    if (rest.starts_with("<|constrain|>")) rest.remove_prefix(13);
    if (!header.channel.empty() && rest.starts_with("json")) rest.remove_prefix(4);
    if (rest.size() == size) throw Malformed();
  }
  return header;
}

Reader<Header> read_header(Reading& r) {
  co_await skip_if(r, "<|start|>");
  const size_t begin = r.position();
  std::string text;
  for (;;) {
    const bool complete = co_await is_next(r, kMessage);
    if (complete) break;
    const int character = co_await r.peek();
    if (character == Reading::kEnd || text.size() == kHeaderBytes) throw Malformed();
    text += static_cast<char>(character);
    r.skip();
  }
  r.skip(kMessage.size());
  Header header = parse_header(text, begin);
  const bool known =
      header.channel == "analysis" || header.channel == "commentary" || header.channel == "final";
  if (!known) throw Malformed();
  co_return header;
}

Reader<bool> skip_message_end(Reading& r) {
  for (const std::string_view end : {"<|end|>", "<|call|>", "<|return|>"}) {
    const bool ends = co_await skip_if(r, end);
    if (ends) co_return true;
  }
  co_return false;
}

Reader<> read_text(Reading& r, bool reasoning) {
  if (reasoning) {
    r.begin_reasoning();
    co_await skip_space(r);
  }
  for (;;) {
    const int character = co_await r.peek();
    if (character == Reading::kEnd) co_return;
    const bool ends = co_await is_next(r, "<|end|>");
    const bool starts = co_await is_next(r, "<|start|>");
    if (ends || starts) break;
    const bool returns = co_await is_next(r, "<|return|>");
    if (returns) break;
    if (reasoning)
      r.take_reasoning();
    else
      r.take_plain();
  }
  if (reasoning) r.end_reasoning();
  co_await skip_message_end(r);
}

Reader<> read_call(Reading& r, const Header& header) {
  co_await skip_space(r);
  const int character = co_await r.peek();
  if (character != '{') throw Malformed();
  r.begin_call(header.function, header.function_begin, header.function_end);
  co_await read_json_arguments(r);
  r.end_call();
  r.commit();
  co_await skip_space(r);
  const bool ended = co_await skip_message_end(r);
  const int next = co_await r.peek();
  if (!ended && next != Reading::kEnd) throw Malformed();
}

Reader<> read_message(Reading& r, bool tools) {
  r.attempt();
  const Header header = co_await read_header(r);
  if (!header.function.empty()) {
    if (!tools) throw Malformed();
    co_await read_call(r, header);
    r.succeed();
    co_return;
  }
  r.succeed();
  co_await read_text(r, header.channel == "analysis");
}

Reader<bool> message_begins(Reading& r) {
  for (const std::string_view begin : {"<|start|>", "<|channel|>", " to=functions."}) {
    const bool next = co_await is_next(r, begin);
    if (next) co_return true;
  }
  co_return false;
}

}  // namespace

Reader<> read_harmony(Reading& r, bool tools) {
  for (;;) {
    const int character = co_await r.peek();
    if (character == Reading::kEnd) co_return;
    const bool message = co_await message_begins(r);
    if (!message) {
      r.take_plain();
      continue;
    }
    bool malformed = false;
    try {
      co_await read_message(r, tools);
    } catch (const Malformed&) {
      malformed = true;
    }
    if (malformed) r.give_up(Reading::Failed::yes);
  }
}

const ToolSyntax kHarmonySyntax = {
    .name = "harmony",
    .trigger = " to=functions.",
    .markers = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>",
                "<|return|>"},
    .fits = [](std::string_view source) { return contains(source, "<|channel|>"); },
    .read_calls = [](Reading& r) { return read_harmony(r, true); },
};

}  // namespace neutrino::chat
