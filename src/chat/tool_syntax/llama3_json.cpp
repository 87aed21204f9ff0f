// Llama 3.1 to 3.3: the answer is {"name": "f", "parameters": {...}}, perhaps behind <|python_tag|>; several are separated by
// semicolons. An answer that begins with another object is content.
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_calls(Reading& r) {
  co_await skip_if(r, "<|python_tag|>");
  for (;;) {
    co_await skip_space(r);
    co_await read_json_call(r);
    co_await skip_space(r);
    const bool more = co_await skip_if(r, ";");
    if (!more) co_return;
  }
}

}  // namespace

const ToolSyntax kLlama3JsonSyntax = {
    .name = "llama3_json",
    .trigger = "<|python_tag|>",
    .start_triggers = {"{"},
    .markers = {"<|python_tag|>"},
    .form = {.before_name = "{\"name\": \"",
             .after_name = "\", \"parameters\": ",
             .after_arguments = "}",
             .between = "; "},
    .fits =
        [](std::string_view source) {
          return contains(source, "<|python_tag|>") || contains(source, "\"parameters\": ");
        },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
