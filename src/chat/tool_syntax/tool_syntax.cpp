#include "chat/tool_syntax/tool_syntax.h"

#include <algorithm>

#include "base/error.h"

namespace neutrino::chat {
namespace {

// What begins here, if it is a call: 0 nothing, else the number of bytes of it; `sure` if it can be nothing else.
struct Trigger {
  bool found = false, sure = false;
};

Reader<Trigger> next_trigger(Reading& r, const ToolSyntax& syntax) {
  if (!syntax.trigger.empty()) {
    const bool next = co_await is_next(r, syntax.trigger);
    if (next) co_return Trigger{.found = true, .sure = true};
  }
  if (!r.at_start()) co_return Trigger{};
  for (const std::string_view start : syntax.start_triggers) {
    if (start.empty()) continue;
    const bool next = co_await is_next(r, start);
    if (next) co_return Trigger{.found = true, .sure = false};
  }
  co_return Trigger{};
}

}  // namespace

const ToolSyntax& find_tool_syntax(std::string_view name) {
  const auto found = std::ranges::find(kToolSyntaxes, name, &ToolSyntax::name);
  if (found != std::end(kToolSyntaxes)) return **found;
  std::string names;
  for (const ToolSyntax* syntax : kToolSyntaxes) names.append(names.empty() ? "" : ", ").append(syntax->name);
  throw make_error(ErrorCode::invalid_argument, "the tool call parser must be one of {}, got \"{:.40}\"",
                   names, name);
}

const ToolSyntax* detect_tool_syntax(std::string_view template_source) {
  const auto found = std::ranges::find_if(
      kToolSyntaxes, [&](const ToolSyntax* syntax) { return syntax->fits(template_source); });
  return found == std::end(kToolSyntaxes) ? nullptr : *found;
}

Reader<> read_content(Reading& r, const ToolSyntax* syntax) {
  for (;;) {
    const int character = co_await r.peek();
    if (character == Reading::kEnd) co_return;
    if (syntax == nullptr) {
      r.take_plain();
      continue;
    }
    const Trigger trigger = co_await next_trigger(r, *syntax);
    if (!trigger.found) {
      r.take_content();
      continue;
    }
    r.attempt();
    bool malformed = false;
    try {
      co_await syntax->read_calls(r);
    } catch (const Malformed&) {
      malformed = true;
    }
    if (malformed)
      r.give_up(trigger.sure ? Reading::Failed::yes : Reading::Failed::no);
    else
      r.succeed();
  }
}

}  // namespace neutrino::chat
