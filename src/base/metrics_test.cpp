#include "base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace neutrino {
namespace {

using testing::HasSubstr;

TEST(Metrics, WritesTheExpositionFormat) {
  Metrics metrics(MetricLabels{{"model_name", "tiny"}});
  metrics.counter("vllm:request_success_total", "Finished", {{"finished_reason", "stop"}}).Increment(2);
  metrics.counter("vllm:request_success_total", "Finished", {{"finished_reason", "length"}}).Increment();
  metrics.gauge("vllm:num_requests_running", "Running").Set(3);
  Histogram& seconds = metrics.histogram("vllm:e2e_request_latency_seconds", "Latency", {0.3, 0.5});
  seconds.Observe(0.4);
  seconds.Observe(7);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# TYPE vllm:request_success_total counter\n"));
  EXPECT_THAT(text,
              HasSubstr("vllm:request_success_total{model_name=\"tiny\",finished_reason=\"stop\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"tiny\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("vllm:e2e_request_latency_seconds_bucket{model_name=\"tiny\",le=\"0.5\"} 1\n"));
  EXPECT_THAT(text,
              HasSubstr("vllm:e2e_request_latency_seconds_bucket{model_name=\"tiny\",le=\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:e2e_request_latency_seconds_count{model_name=\"tiny\"} 2\n"));
}

TEST(Metrics, SameNameAndLabelsAreTheSameSeries) {
  Metrics metrics;
  Counter& first = metrics.counter("a_total", "A", {{"reason", "x"}});
  EXPECT_EQ(&first, &metrics.counter("a_total", "A", {{"reason", "x"}}));
  EXPECT_NE(&first, &metrics.counter("a_total", "A", {{"reason", "y"}}));
}

TEST(Metrics, RefreshesOnScrapeUntilRemoved) {
  Metrics metrics;
  Gauge& gauge = metrics.gauge("depth", "Depth");
  double depth = 1;
  const int64_t id = metrics.on_scrape([&] { gauge.Set(depth); });
  EXPECT_THAT(metrics.text(), HasSubstr("depth 1\n"));
  metrics.remove_on_scrape(id);
  depth = 2;
  EXPECT_THAT(metrics.text(), HasSubstr("depth 1\n"));
}

TEST(Metrics, KnowsTheProcess) {
  Metrics metrics;
  add_process_metrics(metrics);
  metrics.text();
  EXPECT_GT(metrics.gauge("process_resident_memory_bytes", "").Value(), 1 << 20);
  EXPECT_GE(metrics.gauge("process_open_fds", "").Value(), 3);
}

}  // namespace
}  // namespace neutrino
