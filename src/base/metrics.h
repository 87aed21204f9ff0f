// Metrics: counters, gauges and histograms in Prometheus' text format.
//
// A metric is made once, at start, by the part that owns it, and kept as a reference: changing one afterwards is an atomic
// operation (a histogram: a short lock) and never allocates, so the engine thread may do it in every step. Values that are
// cheaper to read than to keep (blocks in use, open files) are refreshed by a function that runs on each scrape.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace prometheus {
class Registry;
}

namespace neutrino {

using Counter = prometheus::Counter;      // Increment(amount)
using Gauge = prometheus::Gauge;          // Set(value)
using Histogram = prometheus::Histogram;  // Observe(value)
using MetricLabels = std::map<std::string, std::string>;
using HistogramBuckets = std::vector<double>;

class Metrics {
 public:
  // Labels that every series gets ("model_name").
  explicit Metrics(MetricLabels common = {});
  ~Metrics();

  // The metric with this name and these labels, made on the first call. References live as long as this object. A name
  // has one kind and one help text. Any thread.
  Counter& counter(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  Gauge& gauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  Histogram& histogram(const std::string& name, const std::string& help, const HistogramBuckets& buckets,
                       const MetricLabels& labels = {});

  // For a series whose labels tell what is the case now. Nobody may use the gauge afterwards.
  void remove(const std::string& name, Gauge& gauge);

  // `refresh` runs on the scraping thread before each text(), under a lock. Who registers outlives this object or removes it.
  int64_t on_scrape(std::function<void()> refresh);
  void remove_on_scrape(int64_t id);

  // The exposition, content type "text/plain; version=0.0.4; charset=utf-8".
  std::string text();

 private:
  template <typename Metric, typename Build, typename... Args>
  Metric& add(Build build, const std::string& name, const std::string& help, const MetricLabels& labels,
              const Args&... args);

  MetricLabels common_;
  std::unique_ptr<prometheus::Registry> registry_;
  std::recursive_mutex mutex_;             // guards the two below; a refresher may make and remove series
  std::map<std::string, void*> families_;  // prometheus::Family<...>* by name
  std::map<int64_t, std::function<void()>> refreshers_;
  int64_t next_refresher_ = 0;
};

// process_cpu_seconds_total, process_resident_memory_bytes, process_open_fds and friends, read from /proc on each scrape.
void add_process_metrics(Metrics& metrics);

}  // namespace neutrino
