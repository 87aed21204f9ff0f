// Series that vLLM's published Grafana boards query and that follow from others, or are constant here.
//
// A board whose query finds no series shows an error instead of a zero; so what this server does not do (other caches than its
// own, multimodal inputs, sleeping when it cannot) is there as a zero. What other parts make themselves is left to them.
#pragma once

#include <string>
#include <vector>

#include "base/metrics.h"
#include "chat/chat_model.h"

namespace neutrino::server {

class BoardMetrics {
 public:
  // After the engine has made its series. `model` and `metrics` outlive this object.
  BoardMetrics(Metrics& metrics, chat::ChatModel& model, const std::string& model_name);
  ~BoardMetrics();
  BoardMetrics(const BoardMetrics&) = delete;
  BoardMetrics& operator=(const BoardMetrics&) = delete;

  void request(int64_t n);            // one inference request with n choices
  void tool_parses(int64_t answers);  // so many were searched for tool calls

 private:
  void refresh();
  void show_sleep();
  void show_adapters();
  static void raise(Counter& counter, double to);  // counters only go up

  Metrics& metrics_;
  chat::ChatModel& model_;
  const std::string model_name_;
  Counter &prompt_tokens_, &cached_tokens_;                          // the engine's
  Counter &computed_by_source_, &cached_by_source_, &cached_alone_;  // follow from them
  Gauge &waiting_capacity_, &gpu_cache_usage_;
  Gauge &awake_, &asleep_;
  Gauge* adapters_ = nullptr;  // the one series there is, with these labels
  MetricLabels adapter_labels_;
  Histogram& choices_;
  Counter& tool_parses_;
  int64_t scrape_ = 0;
};

}  // namespace neutrino::server
