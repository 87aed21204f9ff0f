#include "server/board_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(BoardMetrics, LeaveToOthersWhatTheyMakeThemselves) {
  Metrics metrics;
  metrics.gauge("vllm:lora_requests_info", "Adapters", {{"max_lora", "8"}}).Set(1);
  const chat::testing::FakeChatModel model;
  const BoardMetrics board(metrics, model, "m");
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("vllm:lora_requests_info{max_lora=\"8\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("max_lora=\"0\"")));
  EXPECT_THAT(text, HasSubstr("vllm:spec_decode_num_drafts_total{engine=\"0\",model_name=\"m\"} 0"));
}

}  // namespace
}  // namespace neutrino::server
