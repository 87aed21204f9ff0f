// DeepSeek V3 and R1:
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f
//   ```json
//   {...}
//   ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>
// V3.1 has done away with the type and the fence:
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜><｜tool▁calls▁end｜>
// Either reader reads both.
#include "chat/tool_syntax/json_call.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>", kCallsEnd = "<｜tool▁calls▁end｜>",
                           kCallBegin = "<｜tool▁call▁begin｜>", kCallEnd = "<｜tool▁call▁end｜>",
                           kSeparator = "<｜tool▁sep｜>";

// With the fence. What stood before the separator is the type.
Reader<> read_fenced(Reading& r) {
  const size_t begin = r.position();
  const std::string name = co_await read_until(r, "\n", kFunctionNameBytes);
  const size_t end = r.position();
  co_await skip_space(r);
  co_await expect(r, "```json");
  co_await skip_space(r);
  r.begin_call(name, begin, end);
  co_await read_json_arguments(r);
  co_await skip_space(r);
  co_await expect(r, "```");
}

Reader<> read_call(Reading& r) {
  co_await expect(r, kCallBegin);
  const size_t begin = r.position();
  const std::string first = co_await read_until(r, "<\n", kFunctionNameBytes);
  const size_t end = r.position();
  co_await expect(r, kSeparator);
  const int character = co_await r.peek();
  if (character == '{') {
    r.begin_call(first, begin, end);
    co_await read_json_arguments(r);
  } else {
    if (first != "function") throw Malformed();
    co_await read_fenced(r);
  }
  r.end_call();
  r.commit();
  co_await read_close(r, kCallEnd);
}

Reader<> read_calls(Reading& r) {
  co_await expect(r, kCallsBegin);
  for (;;) {
    co_await skip_space(r);
    co_await read_call(r);
    co_await skip_space(r);
    const int character = co_await r.peek();
    if (character == Reading::kEnd) co_return;
    const bool last = co_await skip_if(r, kCallsEnd);
    if (last) co_return;
  }
}

constexpr std::array<std::string_view, 8> kMarkers = {kCallsBegin, kCallsEnd, kCallBegin, kCallEnd,
                                                      kSeparator};

}  // namespace

const ToolSyntax kDeepseekV3Syntax = {
    .name = "deepseek_v3",
    .trigger = kCallsBegin,
    .markers = kMarkers,
    .form = {.before_name = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
             .after_name = "\n```json\n",
             .after_arguments = "\n```<｜tool▁call▁end｜>",
             .between = "\n",
             .close = kCallsEnd},
    .fits =
        [](std::string_view source) { return contains(source, kCallsBegin) && contains(source, "```json"); },
    .read_calls = read_calls,
};

const ToolSyntax kDeepseekV31Syntax = {
    .name = "deepseek_v31",
    .trigger = kCallsBegin,
    .markers = kMarkers,
    .form = {.before_name = kCallBegin,
             .after_name = kSeparator,
             .after_arguments = kCallEnd,
             .close = kCallsEnd},
    .fits = [](std::string_view source) { return contains(source, kCallsBegin); },
    .read_calls = read_calls,
};

}  // namespace neutrino::chat
