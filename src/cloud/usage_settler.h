// Settling: what a gateway could only estimate (the client left, the gateway died) is looked up in the replica's own log.
//
// The gateway sends a record's id along (X-Neutrino-Usage-Id), and the replica's log line of the request carries it, so a match is certain.
// A log is read once as it grows: what was waited for before goes on where the last look ended, and what is new begins at the
// last look before its request began. Nothing of this has to survive: after a restart logs are read from their beginning.
//
// A row is settled once. What a log that tells of other requests has not, a minute after it was looked for, never came to the replica:
// it costs nothing, unless the gateway saw some of an answer (the replica died before it wrote its line). One whose replica
// is gone, or whose replica writes no such lines, stays as it is; the latter after limits::kUsageSettleHours.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cloud/provider.h"
#include "cloud/schema.h"
#include "store/database.h"

namespace neutrino::cloud {

// As Provider::read_log().
using ReadReplicaLog = std::function<LogChunk(const std::string& replica, int64_t cursor, int64_t bytes_max)>;

// What a replica's log says of one request.
struct LoggedUsage {
  std::string usage_id;
  int64_t input_tokens = 0, cached_tokens = 0, output_tokens = 0, reasoning_tokens = 0;
  bool is_missing = false;  // the log has no line of it
};
// Appends what the whole lines of `text` tell; foreign and torn lines are passed over. Returns the bytes of whole lines.
size_t read_logged_usage(std::string_view text, std::vector<LoggedUsage>& found);

// Belongs to one thread.
class UsageSettler {
 public:
  UsageSettler(store::Database& database, const Tables& tables, std::function<void()> between_steps)
      : database_(database), tables_(tables), between_steps_(std::move(between_steps)) {}

  int64_t settle(const ReadReplicaLog& read_log, int64_t now_ms);

 private:
  struct Unsettled {
    std::string id;
    int64_t started_ms = 0;
  };
  struct Look {
    int64_t at_ms = 0, cursor = 0;  // all that was written before is before the cursor
  };
  struct Log {
    int64_t cursor = 0, looked_ms = 0;
    std::vector<Look> looks;
    std::map<std::string, int64_t> waiting;  // ids that were looked for up to the cursor, and since when
    bool tells = false;                      // it has had lines with usage ids
    bool at_end = false;                     // the last look came to its end
  };

  std::map<std::string, std::vector<Unsettled>> unsettled(int64_t now_ms);  // by replica
  int64_t settle_replica(const std::string& replica, const std::vector<Unsettled>& rows,
                         const ReadReplicaLog& read_log, int64_t now_ms);
  static int64_t begin_of(const Log& log, const std::vector<Unsettled>& rows);
  static std::vector<LoggedUsage> read(Log& log, const std::string& replica, const ReadReplicaLog& read_log,
                                       int64_t now_ms);
  static std::vector<LoggedUsage> missing(const Log& log, int64_t now_ms);
  int64_t write(const std::vector<LoggedUsage>& found, int64_t now_ms);
  int64_t leave_as_they_are(const std::string& replica);
  void step() const {
    if (between_steps_) between_steps_();
  }

  store::Database& database_;
  const Tables& tables_;
  const std::function<void()> between_steps_;
  std::map<std::string, Log> logs_;  // of replicas that had unsettled rows lately
};

}  // namespace neutrino::cloud
