// Chat templates, with a conversation as context: a template_error, or a text within its limit. The first line of an input that
// begins with a brace is the context.
#include "base/limits.h"
#include "base/testing/fuzz.h"
#include "text/templates.h"

using namespace neutrino;

NEUTRINO_FUZZ(template) {
  static constexpr std::string_view kContext =
      R"({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":null,)"
      R"("tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{"x":[1,2.5,null,true]}}}]},)"
      R"({"role":"tool","tool_call_id":"a","content":"3"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],)"
      R"("bos_token":"<s>","eos_token":"</s>","add_generation_prompt":true,"enable_thinking":false})";
  const std::string_view input = as_text(data);
  const size_t line = input.starts_with('{') && !input.starts_with("{{") && !input.starts_with("{%") &&
                              !input.starts_with("{#")
                          ? input.find('\n')
                          : std::string_view::npos;
  const bool has_context = line != std::string_view::npos;
  try {
    const text::Template compiled(has_context ? input.substr(line + 1) : input);
    const std::string text = compiled.render(has_context ? input.substr(0, line) : kContext, 1'767'268'800);
    check(std::ssize(text) <= limits::kTemplateOutputBytes, "a text above its limit");
  } catch (const Error& error) {
    check(error.code() == ErrorCode::invalid_argument, error.message());
  }
}
