#include "net/trace_exporter.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/error.h"
#include "base/log.h"
#include "net/route.h"
#include "net/url.h"

namespace neutrino::net {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLastWords{2};
constexpr std::string_view kTracesPath = "/v1/traces";

// The answer's body says nothing that is needed.
size_t ignore_body(char*, size_t size, size_t count, void*) { return size * count; }

bool is_worth_another_attempt(long status) {
  return status == 0 || status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

// libcurl's handle and its list of headers; keeps the connection between posts.
struct TraceExporter::Post {
  explicit Post(const TraceExporterOptions& options) : curl(curl_easy_init()) {
    check(curl != nullptr, "curl_easy_init");
    add_header("Content-Type", "application/x-protobuf");
    add_header("Expect", "");
    for (const auto& [name, value] : options.headers) add_header(name, value);
    curl_easy_setopt(curl, CURLOPT_URL, options.url.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_body);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  }
  ~Post() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
  }
  Post(const Post&) = delete;
  Post& operator=(const Post&) = delete;

  void add_header(const std::string& name, const std::string& value) {
    headers = curl_slist_append(headers, (name + ":" + (value.empty() ? "" : " " + value)).c_str());
  }

  // The status, or 0 and `fault`.
  long send(const std::string& body, std::string& fault) {
    deadline = SteadyClock::now() + std::chrono::seconds(limits::kTraceExportSeconds);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
    const CURLcode result = curl_easy_perform(curl);
    long status = 0;
    if (result == CURLE_OK)
      curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    else
      fault = curl_easy_strerror(result);
    return status;
  }

  // Called several times a second, also while nothing arrives.
  static int on_progress(void* post, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const Post& self = *static_cast<Post*>(post);
    return SteadyClock::now() >= std::min(self.deadline, self.give_up.load()) ? 1 : 0;
  }

  CURL* curl;
  curl_slist* headers = nullptr;
  SteadyClock::time_point deadline{};
  std::atomic<SteadyClock::time_point> give_up{
      SteadyClock::time_point::max()};  // set when the exporter stops
};

std::string traces_url(std::string_view endpoint) {
  std::string url = Url::parse(endpoint).text();
  while (url.ends_with('/')) url.pop_back();
  if (!url.ends_with(kTracesPath)) url += kTracesPath;
  return url;
}

std::vector<std::pair<std::string, std::string>> parse_pairs(std::string_view what, std::string_view text) {
  const auto trim = [](std::string_view word) {
    word.remove_prefix(std::min(word.find_first_not_of(' '), word.size()));
    return word.substr(0, word.find_last_not_of(' ') + 1);
  };
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    const size_t equals = item.find('=');
    std::string name, value;
    const bool good = equals != std::string_view::npos &&
                      percent_decode(trim(item.substr(0, equals)), name) &&
                      percent_decode(trim(item.substr(equals + 1)), value) && !name.empty() &&
                      (name + value).find_first_of("\r\n") == std::string::npos;
    if (!good)
      throw make_error(ErrorCode::invalid_argument, "{} must be key=value pairs with commas between them",
                       what);
    pairs.emplace_back(std::move(name), std::move(value));
  }
  return pairs;
}

TraceExporter::TraceExporter(TraceExporterOptions options, Metrics& metrics)
    : options_(std::move(options)),
      sent_(metrics.counter("neutrino_trace_spans_sent_total", "Spans that the collector took")),
      dropped_full_(metrics.counter("neutrino_trace_spans_dropped_total",
                                    "Spans that nobody will see, by why", {{"reason", "queue_full"}})),
      dropped_failed_(metrics.counter("neutrino_trace_spans_dropped_total",
                                      "Spans that nobody will see, by why", {{"reason", "export_failed"}})),
      post_(std::make_unique<Post>(options_)),
      thread_([this] { run(); }) {}

TraceExporter::~TraceExporter() {
  post_->give_up = SteadyClock::now() + kLastWords;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TraceExporter::offer(std::vector<Span> spans) {
  const auto count = static_cast<double>(spans.size());
  bool many = false;
  {
    const std::lock_guard lock(mutex_);
    if (static_cast<int64_t>(queue_.size() + spans.size()) > options_.queue_spans)
      return dropped_full_.Increment(count);
    std::move(spans.begin(), spans.end(), std::back_inserter(queue_));
    many = static_cast<int64_t>(queue_.size()) >= limits::kTraceSpansPerExport;
  }
  if (many) changed_.notify_all();
}

bool TraceExporter::stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

std::vector<Span> TraceExporter::take_batch() {
  const std::lock_guard lock(mutex_);
  const size_t count = std::min(queue_.size(), static_cast<size_t>(limits::kTraceSpansPerExport));
  std::vector<Span> batch(std::make_move_iterator(queue_.begin()),
                          std::make_move_iterator(queue_.begin() + static_cast<std::ptrdiff_t>(count)));
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(count));
  return batch;
}

void TraceExporter::run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(options_.interval_ms), [this] {
        return stopping_ || static_cast<int64_t>(queue_.size()) >= limits::kTraceSpansPerExport;
      });
    }
    const bool last = stopping();
    for (std::vector<Span> batch = take_batch(); !batch.empty(); batch = take_batch()) send(batch);
    if (last) return;
  }
}

void TraceExporter::send(const std::vector<Span>& batch) {
  const std::string body = otlp_traces(options_.resource, batch);
  const auto count = static_cast<double>(batch.size());
  std::string fault;
  for (int attempt = 1;; ++attempt) {
    const long status = post_->send(body, fault);
    if (status >= 200 && status < 300) {
      if (std::exchange(failing_, false)) spdlog::info("the trace collector takes spans again");
      return sent_.Increment(count);
    }
    if (status != 0) fault = fmt::format("it answered {}", status);
    const bool again = is_worth_another_attempt(status) && attempt < limits::kTraceExportAttempts;
    if (!again || !wait_for_retry(attempt)) break;
  }
  dropped_failed_.Increment(count);
  if (!std::exchange(failing_, true))
    spdlog::warn("spans are dropped, for the trace collector {} does not take them: {}", options_.url, fault);
}

// False: there is no time any more.
bool TraceExporter::wait_for_retry(int attempt) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(200 << attempt), [this] { return stopping_; });
  return SteadyClock::now() < post_->give_up.load();
}

}  // namespace neutrino::net
