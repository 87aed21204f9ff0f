#include "chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "chat/testing/template_golden.h"

namespace neutrino::chat {
namespace {

using testing::HasSubstr;

const ChatTemplate& golden_template(const std::string& name) {
  static std::map<std::string, ChatTemplate> templates;
  const auto found = templates.find(name);
  if (found != templates.end()) return found->second;
  const std::string source =
      read_file(std::string(NEUTRINO_SOURCE_DIR "/tests/golden/templates/") + name, 1 << 20);
  return templates.try_emplace(name, source, "<|im_start|>", "<|im_end|>").first->second;
}

TEST(ChatTemplate, RendersTheBytesOfTransformers) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  const int64_t now = template_golden().at("now").as_int64();
  std::set<std::string> used;
  int64_t count = 0, raised = 0;
  for (const json::value& value : template_golden().at("cases").as_array()) {
    const json::object& one = value.as_object();
    const std::string name(one.at("template").as_string());
    if (!name.ends_with(".jinja")) continue;  // a model file's own: see engine/template_golden_test.cpp
    const std::string what = name + ", " + std::string(one.at("conversation").as_string());
    used.insert(name);
    ++count;
    std::string text, error;
    try {
      text = golden_template(name).render(golden_conversation(one), now);
    } catch (const Error& failure) {
      error = failure.message();
    }
    if (const auto expected = optional_text(one, "expected")) {
      EXPECT_EQ(text, *expected) << what;
      EXPECT_EQ(error, "") << what;
    } else if (const auto message = optional_text(one, "raised")) {
      EXPECT_EQ(error, *message) << what;
      ++raised;
    } else {
      EXPECT_NE(error, "") << what;
    }
  }
  EXPECT_GE(used.size(), 13u);
  EXPECT_GE(count, 60);
  EXPECT_GE(raised, 5);
}

// One small template each: what Python prints, or that it fails.
TEST(ChatTemplate, EvaluatesAsPythonDoes) {
  Conversation one{.messages = {{.role = "user", .content = "Hi there!"}}};
  one.add_generation_prompt = false;
  int64_t count = 0;
  for (const json::value& value : template_golden().at("snippets").as_array()) {
    const json::object& snippet = value.as_object();
    const std::string source(snippet.at("source").as_string());
    std::string text, error;
    try {
      text = ChatTemplate(source, "<|im_start|>", "<|im_end|>").render(one);
    } catch (const Error& failure) {
      error = failure.message();
    }
    const auto expected = optional_text(snippet, "expected");
    if (expected) {
      EXPECT_EQ(text, *expected) << source << "\n" << error;
    } else if (const auto message = optional_text(snippet, "raised")) {
      EXPECT_EQ(error, *message) << source;
    } else {
      EXPECT_NE(error, "") << source << "\n gives " << text << "\n but Python: " << snippet.at("fails");
    }
    ++count;
  }
  EXPECT_GE(count, 150);
}

Conversation hello() { return {.messages = {{.role = "user", .content = "hello"}}}; }

std::string error_of(const ChatTemplate& chat, const Conversation& conversation, std::string_view reason) {
  try {
    return "no error, but: " + chat.render(conversation);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(error.reason(), reason);
    return error.message();
  }
}

// T-TPL-03
TEST(ChatTemplate, LetsNoRequestShadowWhatTheTemplateGets) {
  const ChatTemplate chat("{{ messages[0].content }}{{ color }}", "", "");
  for (const char* name : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token",
                           "raise_exception", "strftime_now"}) {
    Conversation conversation = hello();
    conversation.template_arguments[name] = "mine";
    EXPECT_THAT(error_of(chat, conversation, "unsupported_parameter"), HasSubstr(name));
  }
  Conversation conversation = hello();
  conversation.template_arguments["color"] = "red";
  EXPECT_EQ(chat.render(conversation), "hellored");
  EXPECT_TRUE(chat.mentions("color"));
  EXPECT_FALSE(chat.mentions("colour"));
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  const ChatTemplate keeps("{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}", "", "");
  const ChatTemplate trims("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}", "",
                           "");
  const ChatTemplate hides("{% for m in messages %}<{{ m.role }}>{% endfor %}", "", "");
  Conversation conversation = hello();
  conversation.messages.push_back({.role = "assistant", .content = "Once upon "});
  conversation.add_generation_prompt = false;
  conversation.continue_final_message = true;
  EXPECT_EQ(keeps.render(conversation), "<user>hello</><assistant>Once upon ");
  EXPECT_EQ(trims.render(conversation), "<user>hello</><assistant>Once upon");
  EXPECT_THAT(error_of(hides, conversation, "template_error"), HasSubstr("continue_final_message"));
  conversation.add_generation_prompt = true;
  EXPECT_THAT(error_of(keeps, conversation, "template_error"), HasSubstr("got both"));
  conversation.add_generation_prompt = false;
  conversation.messages.back().content.reset();
  EXPECT_THAT(error_of(keeps, conversation, "template_error"), HasSubstr("without"));
}

TEST(ChatTemplate, NeedsAMessage) {
  EXPECT_THAT(error_of(ChatTemplate("x", "", ""), Conversation{}, "template_error"),
              HasSubstr("at least one message"));
}

// T-TPL-02
TEST(ChatTemplate, KnowsItselfByItsHash) {
  const ChatTemplate chat("abc", "", "");
  EXPECT_EQ(chat.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(chat.family(), std::nullopt);
}

TEST(ChatTemplate, RefusesAHostileTemplate) {
  const ChatTemplate chat("{% for i in range(10**9) %}x{% endfor %}", "", "");
  EXPECT_THAT(error_of(chat, hello(), "template_error"), HasSubstr("list of more than"));
  EXPECT_THROW(ChatTemplate("{% if %}", "", ""), Error);
}

}  // namespace
}  // namespace neutrino::chat
