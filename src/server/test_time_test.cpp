// Several candidates, one answer: over the scripted model, whose generations play one script each, in their order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using chat::testing::Script;
using net::testing::Reply;
using ::testing::HasSubstr;

json::object object_of(const Reply& reply) {
  const json::value body = parse_json(reply.body);
  return body.get_object();
}

void add_scripts(TestReplica& replica, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) replica.model().add_script({.pieces = {text}});
}

json::object ask(TestReplica& replica, std::string_view reasoning, std::string_view more = "") {
  const Reply reply = replica.post(
      "/v1/chat/completions", chat_body(fmt::format(R"("temperature":1,"reasoning":{}{})", reasoning, more)));
  EXPECT_EQ(reply.status, 200) << reply.body;
  return object_of(reply);
}

std::string content(const json::object& body) {
  return std::string(body.at("choices").at(0).at("message").at("content").get_string());
}

TEST(TestTime, TheFirstCandidateThatPassesTheCheckIsTheAnswer) {
  TestReplica replica;
  add_scripts(replica, {"abc", "de", "7", "89"});
  const json::object body =
      ask(replica, R"({"strategy":"best_of_n","n":4,"check":{"type":"regex","pattern":"^[0-9]+$"}})");
  EXPECT_EQ(content(body), "7");
  EXPECT_EQ(body.at("choices").get_array().size(), 1u);
  const json::value& report = body.at("reasoning");
  EXPECT_EQ(report.at("winner"), 2);
  EXPECT_EQ(report.at("candidates").get_array().size(), 4u);
  EXPECT_EQ(report.at("candidates").at(0).at("passed"), false);
  EXPECT_EQ(report.at("candidates").at(2).at("passed"), true);
  EXPECT_GE(body.at("usage").at("completion_tokens").to_number<int64_t>(), 3 + 2 + 1)
      << "all tokens are counted";
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), json::value(replica.model().requests()[0].prompt.size()));
}

TEST(TestTime, TheMajorityWinsAndTheRestIsEnded) {
  TestReplica replica;
  add_scripts(replica, {"so\n4", "well\n5", "thus\n4", "hence\n4"});
  replica.model().add_script({.pieces = {"hm"}, .stall = true});
  const json::object body =
      ask(replica, R"({"strategy":"self_consistency","n":5,"answer_extractor":"last_line"})");
  EXPECT_EQ(content(body), "so\n4");
  const json::value& report = body.at("reasoning");
  EXPECT_EQ(report.at("votes").at(0).at("answer"), "4");
  EXPECT_EQ(report.at("votes").at(0).at("weight").to_number<double>(), 3);
  EXPECT_EQ(report.at("considered"), 4);
  EXPECT_EQ(report.at("ended_early"), true);
  EXPECT_TRUE(report.at("candidates").at(4).at("finish_reason").is_null());
  EXPECT_TRUE(eventually([&] { return replica.model().active() == 0; }))
      << "the one that went on was cancelled";
}

TEST(TestTime, AStreamedWinnerIsTheUnstreamedOne) {
  constexpr std::string_view kReasoning = R"({"strategy":"self_consistency","n":3})";
  const std::vector<std::string> texts = {"a", "b c", "b c"};
  TestReplica replica;
  add_scripts(replica, texts);
  const json::object whole = ask(replica, kReasoning);
  add_scripts(replica, texts);
  const Reply reply = replica.post(
      "/v1/chat/completions",
      chat_body(fmt::format(
          R"("temperature":1,"stream":true,"stream_options":{{"include_usage":true}},"reasoning":{})",
          kReasoning)));
  const Events events = parse_events(reply.body);
  EXPECT_TRUE(events.done);
  std::string text;
  json::value report;
  for (const json::object& event : events.items) {
    if (event.contains("reasoning")) report = event.at("reasoning");
    for (const json::value& choice : event.at("choices").get_array())
      if (const auto* piece = choice.at("delta").get_object().if_contains("content"))
        text += piece->get_string();
  }
  EXPECT_EQ(text, content(whole));
  EXPECT_EQ(text, "b c");
  EXPECT_EQ(report, whole.at("reasoning"));
  EXPECT_EQ(events.items.back().at("usage"), whole.at("usage"));
}

TEST(TestTime, DeepConfRunsItsWarmUpFirst) {
  TestReplica replica;
  add_scripts(replica, {"x", "y", "y", "y"});
  const json::object body = ask(
      replica, R"({"strategy":"deepconf","n":4,"confidence":{"window":1,"warm_up":2,"keep_percent":50}})");
  EXPECT_EQ(content(body), "y");
  EXPECT_EQ(replica.model().requests().at(0).sampling.logprobs, 20) << "confidence needs the alternatives";
  EXPECT_FALSE(body.at("choices").at(0).at("logprobs").is_object()) << "but nobody asked to see them";
}

TEST(TestTime, ADeadlineTakesWhatThereIs) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"begun"}, .stall = true});
  replica.model().add_script({.pieces = {"done"}});
  const json::object body =
      ask(replica, R"({"strategy":"self_consistency","n":2,"stop":{"deadline_ms":300}})");
  EXPECT_EQ(body.at("reasoning").at("ended_early"), true);
  EXPECT_THAT(content(body), ::testing::AnyOf("begun", "done"));
}

TEST(TestTime, SeedsFollowOneAnother) {
  TestReplica replica;
  add_scripts(replica, {"a", "a"});
  ask(replica, R"({"strategy":"best_of_n","n":2,"scorer":"logprob"})", R"(,"seed":40)");
  const auto requests = replica.model().requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].sampling.seed, 40u);
  EXPECT_EQ(requests[1].sampling.seed, 41u);
}

TEST(TestTime, WhatCannotBeHonouredIsRefusedByName) {
  TestReplica replica;
  const std::pair<const char*, const char*> cases[] = {
      {R"("reasoning":{"strategy":"beam"})", "reasoning.strategy"},
      {R"("reasoning":{"strategy":3})", "reasoning.strategy"},
      {R"("reasoning":{"n":4})", "reasoning.n"},
      {R"("reasoning":{"strategy":"best_of_n","n":0})", "reasoning.n"},
      {R"("reasoning":{"strategy":"best_of_n","n":1.5})", "reasoning.n"},
      {R"("reasoning":{"strategy":"best_of_n","n":1000000})", "reasoning.n"},
      {R"("reasoning":{"strategy":"best_of_n","scorer":"vote"})", "reasoning.scorer"},
      {R"("reasoning":{"strategy":"best_of_n","what":1})", "reasoning.what"},
      {R"("reasoning":{"strategy":"best_of_n","check":{"type":"regex","pattern":"("}})",
       "reasoning.check.pattern"},
      {R"("reasoning":{"strategy":"best_of_n","check":{"type":"regex"}})", "reasoning.check.pattern"},
      {R"("reasoning":{"strategy":"best_of_n","check":{"type":"json_path","path":"a"}})",
       "reasoning.check.path"},
      {R"("reasoning":{"strategy":"best_of_n","check":{"type":"schema"}})", "reasoning.check.schema"},
      {R"("reasoning":{"strategy":"best_of_n","check":{"type":"schema","schema":{"type":"thing"}}})",
       "reasoning.check.schema"},
      {R"("reasoning":{"strategy":"best_of_n","stop":{"vote_share":0.9}})", "reasoning.stop.vote_share"},
      {R"("reasoning":{"strategy":"self_consistency","stop":{"vote_share":2}})", "reasoning.stop.vote_share"},
      {R"("reasoning":{"strategy":"self_consistency","check":{"type":"regex","pattern":"a"}})",
       "reasoning.check"},
      {R"("reasoning":{"strategy":"self_consistency","confidence":{}})", "reasoning.confidence"},
      {R"("reasoning":{"strategy":"self_consistency","answer_extractor":"choice"})",
       "reasoning.answer_extractor.type"},
      {R"("reasoning":{"strategy":"self_consistency","answer_extractor":7})", "reasoning.answer_extractor"},
      {R"("n":2,"temperature":1,"reasoning":{"strategy":"best_of_n","n":2})", "n"},
      {R"("temperature":0,"reasoning":{"strategy":"best_of_n","n":2})", "temperature"},
  };
  for (const auto& [fields, param] : cases) {
    const Reply reply = replica.post("/v1/chat/completions", chat_body(fields));
    EXPECT_EQ(reply.status, 400) << fields << reply.body;
    if (reply.status != 400) continue;
    EXPECT_THAT(std::string(object_of(reply).at("error").at("param").get_string()), HasSubstr(param))
        << fields;
  }
  EXPECT_TRUE(replica.model().requests().empty());
}

}  // namespace
}  // namespace neutrino::server::testing
