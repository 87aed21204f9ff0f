#include "cloud/usage_settler.h"

#include <algorithm>

#include "base/json.h"
#include "base/log.h"
#include "cloud/budget_rows.h"
#include "cloud/limits.h"
#include "cloud/usage_journal.h"
#include "cloud/usage_sums.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kRowsALook = 10'000;  // of a replica
constexpr int64_t kChunkBytes = 256 << 10;
constexpr size_t kLooks = 64;  // kept of a log
constexpr int64_t kMissingMs =
    60'000;  // after that a replica has noticed that nobody reads its answer any more
constexpr int64_t kClockDifferenceMs = 60'000;  // between a gateway's machine and this one
constexpr std::string_view kLineBegin = "{\"time_unix_ms\"";

int64_t number_in(const json::object& line, std::string_view name) {
  const json::value* value = line.if_contains(name);
  return value && value->is_int64() ? std::max<int64_t>(0, value->get_int64()) : 0;
}

// A replica that was full or not ready has done nothing, and the request may have come to it once more.
bool was_refused(const json::object& line) {
  const int64_t status = number_in(line, "status");
  return (status == 429 || status == 503) && number_in(line, "prompt_tokens") == 0;
}

void read_line(std::string_view text, std::vector<LoggedUsage>& found) {
  if (text.find("\"usage_id\"") == std::string_view::npos) return;
  const size_t begin = text.rfind(kLineBegin);  // behind what a killed process left of a line
  try {
    const json::value line = parse_json(begin == std::string_view::npos ? text : text.substr(begin));
    const json::object& fields = line.as_object();
    const json::value* id = fields.if_contains("usage_id");
    if (!id || !id->is_string() || was_refused(fields)) return;
    found.push_back({.usage_id = std::string(id->get_string()),
                     .input_tokens = number_in(fields, "prompt_tokens"),
                     .cached_tokens = number_in(fields, "cached_tokens"),
                     .output_tokens = number_in(fields, "completion_tokens"),
                     .reasoning_tokens = number_in(fields, "reasoning_tokens")});
  } catch (const std::exception&) {
    return;  // somebody else's line
  }
}

UsageRow settled_row(UsageRow row, const LoggedUsage& logged) {
  row.settled = true;
  if (logged.is_missing && row.output_tokens > 0) return row;
  row.exact = true;
  row.input_tokens = logged.input_tokens, row.cached_tokens = logged.cached_tokens;
  row.output_tokens = logged.output_tokens, row.reasoning_tokens = logged.reasoning_tokens;
  row.cost = cost_of(row);
  return row;
}

// The next replica in the order of their ids; empty: there is none.
std::string next_unsettled(store::Transaction& tx, const std::string& after) {
  const auto found = tx.query_row(
      "SELECT replica FROM usage_requests WHERE settled = 0 AND replica > ? ORDER BY replica LIMIT 1", after);
  return found ? store::as_text(found->at(0), "a replica") : std::string();
}

}  // namespace

size_t read_logged_usage(std::string_view text, std::vector<LoggedUsage>& found) {
  size_t at = 0;
  for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', at)) {
    read_line(text.substr(at, end - at), found);
    at = end + 1;
  }
  return at;
}

int64_t UsageSettler::settle(const ReadReplicaLog& read_log, int64_t now_ms) {
  const auto rows = unsettled(now_ms);
  const int64_t oldest_ms = now_ms - limits::kUsageSettleHours * kHourMs;
  std::erase_if(logs_, [&](const auto& log) { return log.second.looked_ms < oldest_ms; });
  int64_t settled = 0;
  for (const auto& [replica, of_replica] : rows)
    settled += settle_replica(replica, of_replica, read_log, now_ms);
  return settled;
}

// What is too old is not waited for any more.
std::map<std::string, std::vector<UsageSettler::Unsettled>> UsageSettler::unsettled(int64_t now_ms) {
  const int64_t oldest_ms = now_ms - limits::kUsageSettleHours * kHourMs;
  std::map<std::string, std::vector<Unsettled>> rows;
  bool some_are_old = false;
  database_.read([&](store::Transaction& tx) {
    rows.clear();
    for (std::string replica = next_unsettled(tx, ""); !replica.empty();
         replica = next_unsettled(tx, replica)) {
      const store::Rows found =
          tx.query("SELECT id, started_ms FROM usage_requests WHERE settled = 0 AND replica = ? LIMIT ?",
                   replica, kRowsALook);
      for (const store::Row& row : found.rows) {
        const int64_t started_ms = store::as_integer(row.at(1), "started_ms");
        if (started_ms >= oldest_ms)
          rows[replica].push_back({store::as_text(row.at(0), "an id"), started_ms});
        some_are_old |= started_ms < oldest_ms;
      }
    }
  });
  if (some_are_old)
    database_.write([&](store::Transaction& tx) {
      tx.execute("UPDATE usage_requests SET settled = 1 WHERE settled = 0 AND started_ms < ?", oldest_ms);
    });
  return rows;
}

int64_t UsageSettler::settle_replica(const std::string& replica, const std::vector<Unsettled>& rows,
                                     const ReadReplicaLog& read_log, int64_t now_ms) {
  Log& log = logs_[replica];
  log.cursor = begin_of(log, rows);
  log.looked_ms = now_ms;
  std::map<std::string, int64_t> waiting;
  for (const Unsettled& row : rows) {
    const auto known = log.waiting.find(row.id);
    waiting.emplace(row.id, known == log.waiting.end() ? now_ms : known->second);
  }
  log.waiting = std::move(waiting);
  try {
    std::vector<LoggedUsage> found = read(log, replica, read_log, now_ms);
    std::erase_if(found, [&](const LoggedUsage& one) { return log.waiting.erase(one.usage_id) == 0; });
    for (LoggedUsage& one : missing(log, now_ms)) found.push_back(std::move(one));
    return found.empty() ? 0 : write(found, now_ms);
  } catch (const Error& error) {
    logs_.erase(replica);  // from the beginning next time
    if (error.code() == ErrorCode::not_found) return leave_as_they_are(replica);
    spdlog::warn("usage is not settled replica={} error=\"{}\"", replica, error.message());
    return 0;
  }
}

int64_t UsageSettler::begin_of(const Log& log, const std::vector<Unsettled>& rows) {
  int64_t begin = log.cursor;
  for (const Unsettled& row : rows) {
    if (log.waiting.contains(row.id)) continue;
    int64_t before = 0;
    for (const Look& look : log.looks)
      if (look.at_ms + kClockDifferenceMs <= row.started_ms) before = std::max(before, look.cursor);
    begin = std::min(begin, before);
  }
  return begin;
}

// To the log's end, or as far as one call may.
std::vector<LoggedUsage> UsageSettler::read(Log& log, const std::string& replica,
                                            const ReadReplicaLog& read_log, int64_t now_ms) {
  std::vector<LoggedUsage> found;
  log.at_end = false;
  for (int64_t bytes = 0; bytes < limits::kUsageSettleBytes;) {
    const LogChunk chunk = read_log(replica, log.cursor, kChunkBytes);
    const size_t whole = read_logged_usage(chunk.text, found);
    const bool full = std::ssize(chunk.text) >= kChunkBytes;
    const int64_t rest = full && whole == 0 ? 0 : std::ssize(chunk.text) - static_cast<int64_t>(whole);
    log.cursor = chunk.next - rest;  // a line that is longer than a chunk is nobody's
    bytes += std::ssize(chunk.text) - rest;
    if (whole > 0 || full) continue;
    if (log.looks.size() >= kLooks) log.looks.erase(log.looks.begin());
    log.looks.push_back({now_ms, log.cursor});
    log.at_end = true;
    break;
  }
  log.tells |= !found.empty();
  return found;
}

std::vector<LoggedUsage> UsageSettler::missing(const Log& log, int64_t now_ms) {
  std::vector<LoggedUsage> ids;
  if (!log.tells || !log.at_end) return ids;
  for (const auto& [id, since_ms] : log.waiting)
    if (now_ms - since_ms >= kMissingMs) ids.push_back({.usage_id = id, .is_missing = true});
  return ids;
}

int64_t UsageSettler::write(const std::vector<LoggedUsage>& found, int64_t now_ms) {
  return database_.write([&](store::Transaction& tx) {
    int64_t settled = 0;
    UsageSums sums;
    for (const LoggedUsage& logged : found) {
      const std::optional<UsageRow> before = tables_.usage.find(tx, logged.usage_id);
      if (!before || before->settled) continue;
      UsageRow after = settled_row(*before, logged);
      tables_.usage.update(tx, after);
      sums.correct(*before, after);
      ++settled;
    }
    step();
    sums.write_hours(tx);
    step();
    charge_budgets(tx, tables_, sums.differences(), now_ms);
    step();
    return settled;
  });
}

int64_t UsageSettler::leave_as_they_are(const std::string& replica) {
  return database_.write([&](store::Transaction& tx) {
    return tx.execute("UPDATE usage_requests SET settled = 1 WHERE settled = 0 AND replica = ?", replica);
  });
}

}  // namespace neutrino::cloud
