// One JSON line per request, one more per admin call, and the http_* metrics: the one place where every request ends, exactly once.
//
// A line says who asked for how much and how long it took; prompts and answers are never in it. The audit line of an admin call, refused
// or not, says who called what from where with which result.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "base/metrics.h"
#include "net/server.h"

namespace neutrino::server {

class RequestLog {
 public:
  // Lines go to `file` (appended), else to stderr; audit lines to `audit`, else beside the others. Throws Error when a file
  // cannot be opened.
  RequestLog(Metrics& metrics, const std::optional<std::filesystem::path>& file,
             const std::optional<std::filesystem::path>& audit = std::nullopt);

  void begin() { accepted_.Increment(); }  // a request came: record() will be called for it
  // `trace_id`: in hex, of the spans that were made of it; empty: none.
  void record(const net::Request& request, const net::Completion& completion, std::string_view trace_id = "");

 private:
  void count(std::string_view handler, const net::Request& request, const net::Completion& completion);
  void audit(const net::Request& request, const net::Completion& completion);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  using File = std::unique_ptr<std::FILE, Close>;
  static File open(std::string_view flag, const std::optional<std::filesystem::path>& path);

  Metrics& metrics_;
  Counter& accepted_;
  File file_, audit_;  // null: stderr; the other one
};

}  // namespace neutrino::server
