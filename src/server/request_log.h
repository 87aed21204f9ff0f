// One JSON line per request, and the http_* metrics: the one place where every request ends, exactly once.
//
// A line says who asked for how much and how long it took; prompts and answers are never in it.
#pragma once

#include <cstdio>
#include <filesystem>
#include <optional>

#include "base/metrics.h"
#include "net/server.h"

namespace neutrino::server {

class RequestLog {
 public:
  // Lines go to `file` (appended), else to stderr. Throws Error when the file cannot be opened.
  RequestLog(Metrics& metrics, const std::optional<std::filesystem::path>& file);
  ~RequestLog();
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  void record(const net::Request& request, const net::Completion& completion);

 private:
  void count(std::string_view handler, const net::Request& request, const net::Completion& completion);
  Metrics& metrics_;
  std::FILE* file_;
};

}  // namespace neutrino::server
