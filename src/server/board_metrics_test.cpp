#include "server/board_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "chat/model_admin.h"
#include "chat/testing/fake_chat_model.h"

namespace neutrino::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const MetricLabels kEngine = {{"model_name", "m"}, {"engine", "0"}};

TEST(BoardMetrics, FollowFromWhatTheEngineCounts) {
  Metrics metrics;
  chat::testing::FakeChatModel model;
  Counter& prompt = metrics.counter("vllm:prompt_tokens_total", "", kEngine);
  Counter& cached = metrics.counter("vllm:prompt_tokens_cached_total", "", kEngine);
  BoardMetrics board(metrics, model, "m");
  prompt.Increment(100);
  cached.Increment(32);
  model.set_status(
      {.ready = true, .waiting = 3, .kv_blocks_referenced = 1, .kv_blocks_cached = 1, .kv_blocks_free = 2});
  board.request(4);
  metrics.text();
  prompt.Increment(10);  // a later scrape counts on
  const std::string text = metrics.text();
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 78)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 32)"));
  EXPECT_THAT(
      text,
      HasSubstr(R"(vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 3)"));
  EXPECT_THAT(text, HasSubstr(R"(vllm:gpu_cache_usage_perc{engine="0",model_name="m"} 0.25)"));
  EXPECT_THAT(text, HasSubstr(R"(vllm:request_params_n_sum{engine="0",model_name="m"} 4)"));
}

TEST(BoardMetrics, TellWhichAdaptersAreInUse) {
  Metrics metrics;
  chat::testing::FakeChatModel model;
  BoardMetrics board(metrics, model, "m");
  const auto shown = [&](const char* waiting, const char* running) {
    const std::string text = metrics.text(), name = "\nvllm:lora_requests_info{";
    EXPECT_EQ(text.find(name), text.rfind(name)) << text;  // one series, whatever was the case before
    return text.find(fmt::format("running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"", running,
                                 waiting)) != std::string::npos;
  };
  EXPECT_TRUE(shown("", ""));
  const auto a = model.load_adapter("a", "x/a", chat::IfLoaded::refuse);
  const auto b = model.load_adapter("b", "x/b", chat::IfLoaded::refuse);
  a->add_use(1, 0);
  b->add_use(2, 1);
  EXPECT_TRUE(shown("a,b", "b"));
  a->add_use(-1, 1);
  EXPECT_TRUE(shown("b", "a,b"));
  EXPECT_FALSE(shown("a,b", "b"));
}

TEST(BoardMetrics, TellWhetherTheModelSleeps) {
  Metrics metrics;
  chat::testing::FakeChatModel model;
  BoardMetrics board(metrics, model, "m");
  const auto is = [&](const char* state, int value) {
    return metrics.text().find(fmt::format("sleep_state=\"{}\"}} {}\n", state, value)) != std::string::npos;
  };
  EXPECT_TRUE(is("awake", 1) && is("discard_all", 0) && is("weights_offloaded", 0));
  model.admin()->fall_asleep();
  model.admin()->sleep();
  EXPECT_TRUE(is("awake", 0) && is("discard_all", 1));
  model.admin()->wake_up();
  EXPECT_TRUE(is("awake", 1) && is("discard_all", 0));
}

TEST(BoardMetrics, LeaveToOthersWhatTheyMakeThemselves) {
  Metrics metrics;
  metrics.counter("vllm:mm_cache_hits_total", "Hits", {{"cache", "images"}}).Increment();
  chat::testing::FakeChatModel model;
  const BoardMetrics board(metrics, model, "m");
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("vllm:mm_cache_hits_total{cache=\"images\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("vllm:mm_cache_hits_total{engine")));
  EXPECT_THAT(text, HasSubstr("vllm:spec_decode_num_drafts_total{engine=\"0\",model_name=\"m\"} 0"));
}

}  // namespace
}  // namespace neutrino::server
