// neutrino logs REPLICA|ENDPOINT: what replicas write.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <thread>

#include "cli/cloud_command.h"
#include "cli/command.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kLineBytes = 400;         // that a line of the tail is reckoned with
constexpr int64_t kChunkBytes = 256 << 10;  // of one answer
constexpr int64_t kWaitMilliseconds = 20'000;
constexpr int64_t kPollMilliseconds = 500;  // between looks at several replicas

struct LogOptions {
  std::string target;
  int64_t tail = -1;  // lines; -1: from the beginning
  bool follow = false;
};

// One replica's output as far as it was read.
class LogReader {
 public:
  LogReader(Cloud& cloud, std::string replica, std::string prefix)
      : cloud_(cloud), replica_(std::move(replica)), prefix_(std::move(prefix)) {}

  void begin_at_tail(int64_t lines) {
    if (lines < 0) return;
    cursor_ = -std::max<int64_t>(1, lines * kLineBytes);
    lines_kept_ = lines;
  }

  // Prints what there is; waits so long for some. False: there was nothing new.
  bool read(int64_t wait_ms) {
    const Query query{{"cursor", std::to_string(cursor_)},
                      {"bytes", std::to_string(kChunkBytes)},
                      {"wait_ms", std::to_string(wait_ms)}};
    const json::value chunk = cloud_.client.get(item_path("replicas", replica_) + "/log", query);
    const int64_t lost = cursor_ > 0 ? integer_at(chunk, "lost_bytes") : 0;
    cursor_ = integer_at(chunk, "next");
    std::string text = text_at(chunk, "text");
    if (lost > 0) print_line(fmt::format("[{} bytes are gone: the log was turned over]", lost));
    if (text.empty()) return false;
    if (lines_kept_ >= 0) text = last_lines(std::move(text), std::exchange(lines_kept_, -1));
    print(std::move(text));
    return true;
  }

  void finish() {
    if (!rest_.empty()) print_line(std::exchange(rest_, ""));
  }

 private:
  static std::string last_lines(std::string text, int64_t lines) {
    size_t begin = text.size() - (text.ends_with('\n') ? 1 : 0);
    for (int64_t left = lines; left > 0 && begin != text.npos; --left)
      begin = begin == 0 ? text.npos : text.rfind('\n', begin - 1);
    return lines == 0 ? "" : begin == text.npos ? text : text.substr(begin + 1);
  }
  // Whole lines only, so that those of several replicas do not mix.
  void print(std::string text) {
    rest_ += text;
    size_t begin = 0;
    for (size_t end = rest_.find('\n'); end != rest_.npos; begin = end + 1, end = rest_.find('\n', begin))
      print_line(rest_.substr(begin, end - begin));
    rest_.erase(0, begin);
    std::fflush(stdout);
  }
  void print_line(const std::string& line) const {
    const std::string text = cloud_.screen.is_terminal ? harmless(line, Controls::lines) : line;
    std::printf("%s%s\n", styled(prefix_, Style::dim, cloud_.screen).c_str(), text.c_str());
  }

  Cloud& cloud_;
  const std::string replica_, prefix_;
  std::string rest_;
  int64_t cursor_ = 0, lines_kept_ = -1;
};

// Those of an endpoint, or the one with that id.
std::vector<std::string> find_replicas(Cloud& cloud, const std::string& target) {
  if (cloud.client.find(item_path("replicas", target))) return {target};
  const auto endpoint = cloud.client.find(item_path("endpoints", target));
  if (!endpoint)
    throw make_error(ErrorCode::not_found, "there is neither a replica nor an endpoint \"{}\"", target);
  std::vector<std::string> replicas;
  for (const json::value& replica :
       cloud.client.list("/replicas", {{"endpoint", text_at(*endpoint, "id")}}).items)
    replicas.push_back(text_at(replica, "id"));
  return replicas;
}

class LogFollower {
 public:
  LogFollower(Cloud& cloud, const LogOptions& options) : cloud_(cloud), options_(options) { find(); }

  void run() {
    if (readers_.empty()) fmt::print(stderr, "{} has no replicas now\n", options_.target);
    while (options_.follow || round_ == 0) {
      const bool is_alone = readers_.size() == 1 && readers_.begin()->first == options_.target;
      const bool is_new = read_all(is_alone && round_ > 0 ? kWaitMilliseconds : 0);
      if (!options_.follow && !is_new) break;
      if (options_.follow && !is_new && !is_alone)
        std::this_thread::sleep_for(std::chrono::milliseconds(kPollMilliseconds));
      if (options_.follow && ++round_ % 4 == 0 && !is_alone) find();
    }
    for (auto& [id, reader] : readers_) reader.finish();
  }

 private:
  void find() {
    for (const std::string& id : find_replicas(cloud_, options_.target)) {
      if (readers_.contains(id)) continue;
      LogReader& reader =
          readers_.emplace(id, LogReader(cloud_, id, id == options_.target ? "" : id + " | ")).first->second;
      if (round_ == 0) reader.begin_at_tail(options_.tail);
    }
  }

  bool read_all(int64_t wait_ms) {
    bool is_new = false;
    for (auto entry = readers_.begin(); entry != readers_.end();) {
      try {
        is_new = entry->second.read(wait_ms) || is_new;
        ++entry;
      } catch (const Error& error) {
        if (error.code() != ErrorCode::not_found || entry->first == options_.target) throw;
        entry->second.finish();  // it is gone, and others may come
        entry = readers_.erase(entry);
      }
    }
    return is_new;
  }

  Cloud& cloud_;
  const LogOptions& options_;
  std::map<std::string, LogReader> readers_;
  int64_t round_ = 0;
};

int run_show(Cloud& cloud, const LogOptions& options) {
  LogFollower(cloud, options).run();
  return 0;
}

}  // namespace

int run_logs(int argc, char** argv) {
  CloudCommand command("logs",
                       "What a replica, or all replicas of an endpoint, write.\nExample: neutrino logs chat "
                       "--tail 20 --follow");
  LogOptions options;
  CLI::App& app = command.alone(Prints::nothing, [&](Cloud& cloud) { return run_show(cloud, options); });
  app.add_option("TARGET", options.target, "a replica's id, or an endpoint's name")->required();
  app.add_flag("-f,--follow", options.follow, "go on with what comes, until Ctrl-C");
  app.add_option("--tail", options.tail, "only so many of the last lines")->check(CLI::NonNegativeNumber);
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
