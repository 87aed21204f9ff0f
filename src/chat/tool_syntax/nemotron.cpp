// Nemotron Nano 2: <TOOLCALL>[{"name": "f", "arguments": {...}}, ...]</TOOLCALL>
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_calls(Reading& r) {
  co_await expect(r, "<TOOLCALL>");
  co_await skip_space(r);
  co_await read_json_calls(r);
  co_await read_close(r, "</TOOLCALL>");
}

}  // namespace

const ToolSyntax kNemotronSyntax = {
    .name = "nemotron",
    .trigger = "<TOOLCALL>",
    .markers = {"<TOOLCALL>", "</TOOLCALL>"},
    .form = {.open = "[",
             .before_name = "{\"name\": \"",
             .after_name = "\", \"arguments\": ",
             .after_arguments = "}",
             .between = ", ",
             .close = "]</TOOLCALL>"},
    .fits = [](std::string_view source) { return contains(source, "<TOOLCALL>"); },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
