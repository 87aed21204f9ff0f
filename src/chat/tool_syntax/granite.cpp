// Granite 3: <|tool_call|>[{"name": "f", "arguments": {...}}, ...]
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_calls(Reading& r) {
  co_await expect(r, "<|tool_call|>");
  co_await skip_space(r);
  co_await read_json_calls(r);
}

}  // namespace

const ToolSyntax kGraniteSyntax = {
    .name = "granite",
    .trigger = "<|tool_call|>",
    .markers = {"<|tool_call|>"},
    .form = kJsonArrayForm,
    .fits = [](std::string_view source) { return contains(source, "<|tool_call|>"); },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
