#include "chat/answer_grammar.h"

#include <algorithm>

#include "base/error.h"
#include "chat/reasoning.h"
#include "chat/tool_syntax/tool_syntax.h"

namespace neutrino::chat {
namespace {

using text::GrammarKind;

// Text in which `barred` does not occur.
std::string text_without(std::string_view barred) {
  return fmt::format("/(.|\\n)*/ & ~/(.|\\n)*{}(.|\\n)*/", regex_text(barred));
}

class Writer {
 public:
  Writer(const AnswerStyle& style, const AnswerRules& rules)
      : style_(style), syntax_(*style.calls), form_(style.calls->form), rules_(rules) {}

  std::string write() {
    if (style_.calls == &kHarmonySyntax)
      write_harmony();
    else
      write_start();
    return text_;
  }

 private:
  bool calls() const { return rules_.choice != ToolChoice::none && !rules_.tools.empty(); }
  std::string marker(std::string_view text) const { return lark_sequence(text, style_.special); }
  bool is_special(std::string_view text) const { return style_.special.contains(text); }
  void rule(std::string_view name, std::string_view body) { text_ += fmt::format("{}: {}\n", name, body); }

  // ---- all syntaxes but harmony

  void write_start() {
    if (!calls()) {
      rule("start", "content");
      write_content();
      return;
    }
    const bool forced = rules_.choice == ToolChoice::required;
    rule("start", forced ? "direct_calls" : rules_.content ? "content | direct_calls" : free_or_calls());
    if (!forced) write_content();
    rule("direct_calls", joined(marker(syntax_.trigger), "calls"));
    write_calls();
  }

  // Any text, and from what begins a call on nothing but calls.
  std::string free_or_calls() {
    if (syntax_.trigger.empty()) return "content | calls";
    // Calls that begin the answer: no text goes before them, as it could go on for ever beside them.
    if (!syntax_.start_triggers[0].empty()) return "content | direct_calls | calls";
    if (is_special(syntax_.trigger)) return "content direct_calls?";
    text_ += fmt::format("to_call[lazy]: /(.|\\n)*{}/\n", regex_text(syntax_.trigger));
    return "content | to_call calls";
  }

  void write_content() {
    if (rules_.content) {
      write_constraint();
      return;
    }
    rule("content", "TEXT");
    std::string text = syntax_.trigger.empty() ? "/(.|\\n)*/" : text_without(syntax_.trigger);
    for (const std::string_view start : syntax_.start_triggers)
      if (!start.empty())
        text += fmt::format(" & /([ \\t\\r\\n]*([^ \\t\\r\\n{}](.|\\n)*)?)/", regex_text(start));
    rule("TEXT", text);
  }

  void write_constraint() {
    const text::GrammarSpec& content = *rules_.content;
    switch (content.kind) {
      case GrammarKind::json_schema: rule("content", "%json " + content.text); return;
      case GrammarKind::json_object: rule("content", R"(%json {"type": "object"})"); return;
      case GrammarKind::choice: {
        std::string choices;
        const json::value list = parse_json(content.text);
        for (const json::value& choice : list.as_array())
          choices += (choices.empty() ? "" : " | ") + lark_string(choice.as_string());
        rule("content", choices);
        return;
      }
      default:
        throw make_error(ErrorCode::invalid_argument,
                         "{} cannot be combined with tools: only JSON and choices can", content.param)
            .with_reason("unsupported_parameter")
            .with_param(content.param);
    }
  }

  void write_calls() {
    std::string many = "one_call";
    if (rules_.parallel) {
      rule("next_call", joined(marker(form_.between), "one_call"));
      many += " next_call*";
    }
    rule("calls", joined(joined(marker(form_.open), many), marker(form_.close)));
    write_functions("one_call", [&](const std::string& name, const json::object& function,
                                    const std::string& path) {
      const std::string head = fmt::format(
          "{}{}{}", form_.before_name, std::string_view(function.at("name").as_string()), form_.after_name);
      rule(name, joined(joined(marker(head), name + "_args"), marker(form_.after_arguments)));
      json::object schema = parameters_schema(function, path);
      if (form_.parameters.before_value.empty())
        rule(name + "_args", json_rule(std::move(schema)));
      else
        text_ += parameter_rules(name + "_args", schema, form_.parameters, style_.special,
                                 path + ".parameters", texts_);
    });
  }

  // The alternatives of a rule, one a function that may be called; `write` writes each.
  template <typename Write>
  void write_functions(std::string_view name, Write write) {
    std::string alternatives;
    for (size_t i = 0; i < rules_.tools.size(); ++i) {
      const json::object& function = rules_.tools[i].as_object().at("function").as_object();
      if (!rules_.function.empty() && function.at("name").as_string() != rules_.function) continue;
      const std::string call = fmt::format("call_{}", i);
      alternatives += (alternatives.empty() ? "" : " | ") + call;
      write(call, function, fmt::format("tools[{}].function", i));
    }
    rule(name, alternatives);
  }

  // ---- harmony: the reasoning is a part of the grammar

  void write_harmony() {
    const bool forced = calls() && rules_.choice == ToolChoice::required;
    std::string last = forced ? "" : "final";
    if (calls()) last += fmt::format("{}commentary? harmony_call", forced ? "" : " | ");
    rule("start", fmt::format("analysis* ({})", last));
    const std::string next = marker("<|end|><|start|>assistant");
    rule("analysis", fmt::format("{} TEXT {}", marker("<|channel|>analysis<|message|>"), next));
    rule("TEXT", is_special("<|end|>") ? "/(.|\\n)*/" : "/[^<]*/");
    if (!forced) {
      rule("final", marker("<|channel|>final<|message|>") + " content");
      if (rules_.content)
        write_constraint();
      else
        rule("content", "TEXT");
    }
    if (!calls()) return;
    rule("commentary", fmt::format("{} TEXT {}", marker("<|channel|>commentary<|message|>"), next));
    write_functions("harmony_call",
                    [&](const std::string& name, const json::object& function, const std::string& path) {
                      const std::string head =
                          fmt::format("<|channel|>commentary to=functions.{} <|constrain|>json<|message|>",
                                      std::string_view(function.at("name").as_string()));
                      rule(name, fmt::format("{} {}_args", marker(head), name));
                      rule(name + "_args", json_rule(parameters_schema(function, path)));
                    });
  }

  static std::string joined(const std::string& a, const std::string& b) {
    return a.empty() || b.empty() ? a + b : a + " " + b;
  }

  const AnswerStyle& style_;
  const ToolSyntax& syntax_;
  const CallForm& form_;
  const AnswerRules& rules_;
  SharedTexts texts_;
  std::string text_;
};

}  // namespace

std::optional<text::GrammarSpec> answer_grammar(const AnswerStyle& style, const AnswerRules& rules) {
  const bool harmony = style.calls == &kHarmonySyntax;
  if (rules.tools.empty() && (!harmony || !rules.content)) return rules.content;
  if (rules.choice == ToolChoice::none && rules.content && !harmony) return rules.content;
  if (style.calls == nullptr)
    throw Error(ErrorCode::invalid_argument, "this model calls no tools")
        .with_reason("unsupported_parameter")
        .with_param("tools");
  return text::GrammarSpec{.kind = GrammarKind::lark, .text = Writer(style, rules).write(), .param = "tools"};
}

}  // namespace neutrino::chat
