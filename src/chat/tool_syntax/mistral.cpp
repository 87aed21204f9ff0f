// Mistral. Up to tokenizer version 7 the calls are a list:
//   [TOOL_CALLS][{"name": "f", "arguments": {...}, "id": "..."}, ...]
// and from version 11 on each stands for itself:
//   [TOOL_CALLS]f[ARGS]{...}[TOOL_CALLS]g[ARGS]{...}      ([CALL_ID]... before [ARGS] in some)
// Either reader reads both.
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_named_call(Reading& r) {
  const size_t begin = r.position();
  const std::string name = co_await read_until(r, "[{ \n", kFunctionNameBytes);
  const size_t end = r.position();
  const bool has_id = co_await skip_if(r, "[CALL_ID]");
  if (has_id) {
    const std::string id = co_await read_until(r, "[{ \n", kFunctionNameBytes);
    check_call_id(id);
  }
  co_await skip_if(r, "[ARGS]");
  co_await skip_space(r);
  const int character = co_await r.peek();
  if (character != '{') throw Malformed();
  r.begin_call(name, begin, end);
  co_await read_json_arguments(r);
  r.end_call();
  r.commit();
}

Reader<> read_calls(Reading& r) {
  co_await expect(r, "[TOOL_CALLS]");
  co_await skip_space(r);
  const int character = co_await r.peek();
  if (character == '[')
    co_await read_json_calls(r);
  else
    co_await read_named_call(r);
}

}  // namespace

const ToolSyntax kMistralSyntax = {
    .name = "mistral",
    .trigger = "[TOOL_CALLS]",
    .markers = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"},
    .form = kJsonArrayForm,
    .fits = [](std::string_view source) { return contains(source, "[TOOL_CALLS]"); },
    .read_calls = read_calls,
};

const ToolSyntax kMistralArgsSyntax = {
    .name = "mistral_args",
    .trigger = "[TOOL_CALLS]",
    .markers = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"},
    .form = {.after_name = "[ARGS]", .between = "[TOOL_CALLS]"},
    .fits =
        [](std::string_view source) {
          return contains(source, "[TOOL_CALLS]") && contains(source, "[ARGS]");
        },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
