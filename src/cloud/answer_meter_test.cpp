#include "cloud/answer_meter.h"

#include <gtest/gtest.h>

namespace neutrino::cloud {
namespace {

constexpr std::string_view kStream =
    "data: {\"choices\":[{\"delta\":{\"content\":\"a "
    "\\\"usage\\\":{\\\"prompt_tokens\\\":99}\"}}],\"usage\":null}\n\n"
    ": ping\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\n\r\n"
    "data: "
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"prompt_tokens_details\":{"
    "\"cached_tokens\":4},"
    "\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n"
    "data: [DONE]\n\n";

struct Read {
  std::string out;
  TokenUsage usage;
  bool has_usage;
  int64_t events;
};

Read read(AnswerForm form, std::string_view text, size_t step) {
  AnswerMeter meter(form);
  std::string out;
  for (size_t at = 0; at < text.size(); at += step) out += meter.feed(text.substr(at, step));
  out += meter.finish();
  return {out, meter.usage(), meter.has_usage(), meter.events()};
}

TEST(AnswerMeter, EventsAreReadHoweverTheyAreCut) {
  std::string without(kStream);
  const size_t begin = without.find("data: {\"choices\":[],");
  without.erase(begin, without.find("data: [DONE]") - begin);
  for (size_t step = 1; step <= kStream.size(); ++step) {
    const Read all = read(AnswerForm::events, kStream, step);
    EXPECT_EQ(all.out, kStream) << step;
    const Read stripped = read(AnswerForm::events_without_usage, kStream, step);
    EXPECT_EQ(stripped.out, without) << step;
    for (const Read& one : {all, stripped}) {
      EXPECT_TRUE(one.has_usage);
      EXPECT_EQ(one.usage.input, 7);
      EXPECT_EQ(one.usage.cached, 4);
      EXPECT_EQ(one.usage.output, 2);
      EXPECT_EQ(one.usage.reasoning, 1);
      EXPECT_EQ(one.events, 2);
    }
  }
}

TEST(AnswerMeter, UsageOfTheOtherApis) {
  struct Case {
    AnswerForm form;
    std::string_view text;
    int64_t input, cached, output;
    bool has_usage = true;
  };
  for (const Case& row : std::initializer_list<Case>{
           {AnswerForm::whole, R"({"data":[1],"usage": {"prompt_tokens": 5, "total_tokens": 5}})", 5, 0, 0},
           {AnswerForm::whole,
            R"({"usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":2},"content":[]})", 8,
            3, 2},
           {AnswerForm::whole, R"({"text":"\"usage\":{\"prompt_tokens\":1}"})", 0, 0, 0, false},
           {AnswerForm::whole, R"({"usage":null})", 0, 0, 0, false},
           {AnswerForm::whole, R"({"usage":{"prompt_tokens":-4,"completion_tokens":"x"}})", 0, 0, 0},
           {AnswerForm::whole, R"({"usage":{"prompt_tokens":)", 0, 0, 0, false},
           {AnswerForm::events,
            "event: message_start\ndata: "
            "{\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n"
            "event: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":6}}\n\n",
            9, 0, 6},
           {AnswerForm::events,
            "data: "
            "{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":4,\"output_tokens\":"
            "3,"
            "\"input_tokens_details\":{\"cached_tokens\":2}}}}\n\n",
            4, 2, 3},
           {AnswerForm::events, "data: {\"metadata\":{\"usage\":{\"prompt_tokens\":1}}}\n\n", 0, 0, 0, false},
           {AnswerForm::events, "data: not json \"usage\":{}\n\n", 0, 0, 0, false}}) {
    const Read one = read(row.form, row.text, 10);
    EXPECT_EQ(one.has_usage, row.has_usage) << row.text;
    EXPECT_EQ(one.usage.input, row.input) << row.text;
    EXPECT_EQ(one.usage.cached, row.cached) << row.text;
    EXPECT_EQ(one.usage.output, row.output) << row.text;
    EXPECT_EQ(one.out, row.text);
  }
}

TEST(AnswerMeter, KeepsNoMoreThanATail) {
  AnswerMeter whole(AnswerForm::whole), events(AnswerForm::events);
  const std::string piece(100'000, 'x');
  int64_t passed = 0;
  for (int i = 0; i < 100; ++i) {
    whole.feed(piece);
    passed += static_cast<int64_t>(events.feed(piece).size());
  }
  EXPECT_GT(passed, 8'000'000);  // an event without end is not held back for ever
  whole.feed(R"(,"usage":{"prompt_tokens":3}})");
  whole.finish();
  EXPECT_EQ(whole.usage().input, 3);
}

}  // namespace
}  // namespace neutrino::cloud
