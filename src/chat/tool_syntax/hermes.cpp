// Hermes, Qwen 2.5 and 3, Granite 4 and many others:
//   <tool_call>
//   {"name": "f", "arguments": {...}}
//   </tool_call>
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_calls(Reading& r) {
  co_await expect(r, "<tool_call>");
  co_await skip_space(r);
  co_await read_json_call(r);
  co_await read_close(r, "</tool_call>");
}

}  // namespace

const ToolSyntax kHermesSyntax = {
    .name = "hermes",
    .trigger = "<tool_call>",
    .markers = {"<tool_call>", "</tool_call>"},
    .form = {.open = "\n",
             .before_name = "{\"name\": \"",
             .after_name = "\", \"arguments\": ",
             .after_arguments = "}\n</tool_call>",
             .between = "\n<tool_call>\n"},
    .fits = [](std::string_view source) { return contains(source, "<tool_call>"); },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
