// Qwen3-Coder, Qwen 3.5, Nemotron 3, Step:
//   <tool_call>
//   <function=f>
//   <parameter=key>
//   value
//   </parameter>
//   </function>
//   </tool_call>
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tagged_values.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

Reader<> read_call(Reading& r) {
  const size_t begin = r.position();
  const std::string name = co_await read_until(r, ">\n", kFunctionNameBytes);
  r.begin_call(name, begin, r.position());
  co_await expect(r, ">");
  r.commit();
  TaggedArguments arguments(r);
  for (;;) {
    co_await skip_space(r);
    const bool more = co_await skip_if(r, "<parameter=");
    if (!more) break;
    const size_t key_begin = r.position();
    const std::string key = co_await read_until(r, ">\n", kFunctionNameBytes);
    const size_t key_end = r.position();
    co_await expect(r, ">\n");
    co_await arguments.read(key, key_begin, key_end, "\n</parameter>");
  }
  co_await expect(r, "</function>");
  arguments.finish();
  r.end_call();
  r.commit();
}

Reader<> read_calls(Reading& r) {
  co_await expect(r, "<tool_call>");
  co_await skip_space(r);
  co_await expect(r, "<function=");
  co_await read_call(r);
  co_await read_close(r, "</tool_call>");
}

}  // namespace

const ToolSyntax kQwen3CoderSyntax = {
    .name = "qwen3_coder",
    .trigger = "<tool_call>",
    .markers = {"<tool_call>", "</tool_call>"},
    .form = {.open = "\n",
             .before_name = "<function=",
             .after_name = ">\n",
             .parameters = {.before_key = "<parameter=",
                            .before_value = ">\n",
                            .after_value = "\n</parameter>\n",
                            .text_values = true},
             .after_arguments = "</function>\n</tool_call>",
             .between = "\n<tool_call>\n"},
    .fits =
        [](std::string_view source) {
          return contains(source, "<tool_call>") && contains(source, "<function=");
        },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
