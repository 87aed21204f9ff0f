#include "base/metrics.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/error.h"

namespace neutrino {

Metrics::Metrics(MetricLabels common)
    : common_(std::move(common)), registry_(std::make_unique<prometheus::Registry>()) {}
Metrics::~Metrics() = default;

template <typename Metric, typename Build, typename... Args>
Metric& Metrics::add(Build build, const std::string& name, const std::string& help,
                     const MetricLabels& labels, const Args&... args) {
  const std::lock_guard lock(mutex_);
  void*& family = families_[name];
  if (family == nullptr) family = &build().Name(name).Help(help).Labels(common_).Register(*registry_);
  return static_cast<prometheus::Family<Metric>*>(family)->Add(labels, args...);
}

Counter& Metrics::counter(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return add<Counter>(prometheus::BuildCounter, name, help, labels);
}

Gauge& Metrics::gauge(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return add<Gauge>(prometheus::BuildGauge, name, help, labels);
}

Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                              const HistogramBuckets& buckets, const MetricLabels& labels) {
  check(std::is_sorted(buckets.begin(), buckets.end()), "histogram buckets must ascend");
  return add<Histogram>(prometheus::BuildHistogram, name, help, labels, buckets);
}

void Metrics::remove(const std::string& name, Gauge& gauge) {
  const std::lock_guard lock(mutex_);
  const auto family = families_.find(name);
  check(family != families_.end(), "a gauge is removed under a name that nothing has");
  static_cast<prometheus::Family<Gauge>*>(family->second)->Remove(&gauge);
}

int64_t Metrics::on_scrape(std::function<void()> refresh) {
  const std::lock_guard lock(mutex_);
  refreshers_.emplace(next_refresher_, std::move(refresh));
  return next_refresher_++;
}

void Metrics::remove_on_scrape(int64_t id) {
  const std::lock_guard lock(mutex_);
  refreshers_.erase(id);
}

// Under one lock, so that what a refresher sets together is read together.
std::string Metrics::text() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, refresh] : refreshers_) refresh();
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

namespace {

// The fields of /proc/self/statm are pages: total, resident, ...
struct MemoryPages {
  long total = 0, resident = 0;
};

MemoryPages read_memory_pages() {
  MemoryPages pages;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &pages.total, &pages.resident) != 2) pages = {};
    std::fclose(file);
  }
  return pages;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int64_t open_files() {
  std::error_code failure;
  std::filesystem::directory_iterator files("/proc/self/fd", failure);
  return failure ? 0 : std::distance(files, std::filesystem::directory_iterator{});
}

}  // namespace

void add_process_metrics(Metrics& metrics) {
  Counter& cpu = metrics.counter("process_cpu_seconds_total", "User and system CPU time spent");
  Gauge& resident = metrics.gauge("process_resident_memory_bytes", "Resident memory");
  Gauge& virtual_memory = metrics.gauge("process_virtual_memory_bytes", "Virtual memory");
  Gauge& files = metrics.gauge("process_open_fds", "Open file descriptors");
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  metrics.gauge("process_max_fds", "Largest number of open file descriptors")
      .Set(static_cast<double>(limit.rlim_cur));
  metrics.gauge("process_start_time_seconds", "Start time since the Unix epoch").SetToCurrentTime();
  metrics.on_scrape([&cpu, &resident, &virtual_memory, &files] {
    const double page = static_cast<double>(sysconf(_SC_PAGESIZE));
    const MemoryPages pages = read_memory_pages();
    cpu.Increment(std::max(0.0, cpu_seconds() - cpu.Value()));
    resident.Set(page * static_cast<double>(pages.resident));
    virtual_memory.Set(page * static_cast<double>(pages.total));
    files.Set(static_cast<double>(open_files()));
  });
}

}  // namespace neutrino
