// The chat template of a real model file, against what transformers renders with it (tools/make_template_golden.py). It
// lives here because the file reader and the template are both below.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "chat/chat_template.h"
#include "chat/testing/template_golden.h"
#include "weights/weight_file.h"

namespace neutrino {
namespace {

TEST(TemplateGolden, SmolLM2RendersTheBytesOfTransformers) {
  const char* model = std::getenv("NEUTRINO_TEST_MODEL");
  if (!model) GTEST_SKIP() << "NEUTRINO_TEST_MODEL is not set";
  const auto source = weights::open_weight_file(model)->chat_template();
  ASSERT_TRUE(source.has_value());
  const chat::ChatTemplate chat(*source, "<|im_start|>", "<|im_end|>");
  EXPECT_EQ(chat.family(), "smollm2-instruct");
  int64_t count = 0;
  for (const json::value& value : chat::template_golden().at("cases").as_array()) {
    const json::object& one = value.as_object();
    if (one.at("template").as_string() != "smollm2") continue;
    ++count;
    if (const auto expected = chat::optional_text(one, "expected"))
      EXPECT_EQ(chat.render(chat::golden_conversation(one)), *expected) << one.at("conversation");
    else
      EXPECT_THROW(chat.render(chat::golden_conversation(one)), Error) << one.at("conversation");
  }
  EXPECT_GE(count, 10);
}

}  // namespace
}  // namespace neutrino
