// GLM 4.5 to 4.7 (where the line breaks are left out):
//   <tool_call>f
//   <arg_key>key</arg_key>
//   <arg_value>value</arg_value>
//   </tool_call>
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tagged_values.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_arguments(Reading& r) {
  TaggedArguments arguments(r);
  for (;;) {
    co_await skip_space(r);
    const bool more = co_await skip_if(r, "<arg_key>");
    if (!more) break;
    const size_t key_begin = r.position();
    const std::string key = co_await read_until(r, "<", kFunctionNameBytes);
    const size_t key_end = r.position();
    co_await expect(r, "</arg_key>");
    co_await skip_space(r);
    co_await expect(r, "<arg_value>");
    co_await arguments.read(key, key_begin, key_end, "</arg_value>");
  }
  co_await expect(r, "</tool_call>");
  arguments.finish();
}

Reader<> read_calls(Reading& r) {
  co_await expect(r, "<tool_call>");
  const size_t begin = r.position();
  const std::string name = co_await read_until(r, "\n<", kFunctionNameBytes);
  r.begin_call(name, begin, r.position());
  co_await read_arguments(r);
  r.end_call();
  r.commit();
}

}  // namespace

const ToolSyntax kGlmSyntax = {
    .name = "glm",
    .trigger = "<tool_call>",
    .markers = {"<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"},
    .form = {.after_name = "\n",
             .parameters = {.before_key = "<arg_key>",
                            .before_value = "</arg_key>\n<arg_value>",
                            .after_value = "</arg_value>\n",
                            .text_values = true},
             .after_arguments = "</tool_call>",
             .between = "\n<tool_call>"},
    .fits =
        [](std::string_view source) {
          return contains(source, "<tool_call>") && contains(source, "<arg_key>");
        },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
