// What each request used, once, on disk before its answer ends: the source of all metering.
//
// The gateway writes a line when a request goes to a replica and one when it has ended. The latter is with the kernel before the client
// gets the answer's last byte, so it survives the gateway's death (kill -9); the former a turn of the io thread later. A thread syncs
// all lines of the last milliseconds together, so a power cut loses at most these. A gateway that comes back finds requests that were begun and never ended: it records
// them as lost, with `exact` false. The control plane reads records after the sequence number that it has counted, and forgets them
// when its own database has them: each is counted once, whoever dies.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fields.h"
#include "base/file.h"

namespace neutrino::cloud {

struct UsageRecord {
  int64_t sequence = 0;  // of this gateway, without gaps
  std::string id;        // unique; the request id is the client's to choose
  std::string request_id;
  std::string workspace, endpoint, deployment, replica, key, member;
  std::string model;  // as the client wrote it
  std::string path;
  int64_t status = 0;      // as sent; 0: the gateway died
  bool complete = false;   // the answer came to its end
  bool exact = false;      // tokens are the replica's own count, not an estimate
  int64_t started_ms = 0;  // Unix time
  int64_t queue_ms = 0;    // held in the gateway
  int64_t replica_ms = 0;
  int64_t first_token_ms = 0;  // since the request arrived; 0: there was none
  int64_t input_tokens = 0, cached_tokens = 0, output_tokens = 0, reasoning_tokens = 0;
  int64_t price_input = 0, price_cached_input = 0,
          price_output = 0;  // nanodollars a token, as the gateway knew them
  int64_t cost = 0;          // nanodollars
  static constexpr auto fields() {
    using R = UsageRecord;
    return std::tuple(
        field("sequence", &R::sequence), field("id", &R::id), field("request_id", &R::request_id),
        field("workspace", &R::workspace), field("endpoint", &R::endpoint),
        field("deployment", &R::deployment), field("replica", &R::replica), field("key", &R::key),
        field("member", &R::member), field("model", &R::model), field("path", &R::path),
        field("status", &R::status), field("complete", &R::complete), field("exact", &R::exact),
        field("started_ms", &R::started_ms), field("queue_ms", &R::queue_ms),
        field("replica_ms", &R::replica_ms), field("first_token_ms", &R::first_token_ms),
        field("input_tokens", &R::input_tokens), field("cached_tokens", &R::cached_tokens),
        field("output_tokens", &R::output_tokens), field("reasoning_tokens", &R::reasoning_tokens),
        field("price_input", &R::price_input), field("price_cached_input", &R::price_cached_input),
        field("price_output", &R::price_output), field("cost", &R::cost));
  }
};

// What tokens cost at the prices beside them. For a UsageRecord and for the row that it becomes.
template <typename Usage>
int64_t cost_of(const Usage& usage) {
  const int64_t cached = std::min(usage.cached_tokens, usage.input_tokens);
  return (usage.input_tokens - cached) * usage.price_input + cached * usage.price_cached_input +
         usage.output_tokens * usage.price_output;
}

// Where the gateway puts what requests used. Called on its io thread.
class UsageSink {
 public:
  virtual ~UsageSink() = default;
  // It goes to a replica now; kept at the next flush() or record(). Once more if it goes to another.
  virtual void begin(const UsageRecord& record) = 0;
  virtual void flush() {}
  virtual int64_t record(UsageRecord record) = 0;  // it has ended; returns its sequence number
};

class UsageJournal final : public UsageSink {
 public:
  // Opens the folder, records what was begun and never ended, goes on in a new segment. Throws Error.
  explicit UsageJournal(std::filesystem::path folder);
  ~UsageJournal() override;

  void begin(const UsageRecord& record) override;
  void flush() override;
  int64_t record(UsageRecord record) override;

  // Names this journal, and so its gateway to whoever counts: made with the folder, since another folder's sequence is another's.
  const std::string& id() const { return id_; }

  // Any thread. Records with a larger sequence number, at most `most`, in order; only what is on disk, since what was counted must
  // not be lost here and its number given to another. Throws Error{data_loss} if the disk fails.
  std::vector<UsageRecord> read_after(int64_t sequence, size_t most);
  void forget(int64_t sequence);  // these are counted: segments that hold no later ones are removed
  int64_t last_sequence() const;
  void sync();  // returns when everything written so far is on disk

 private:
  void open_segment();
  void write_lines();
  void recover();
  struct Place {
    std::filesystem::path path;
    int64_t offset = 0;
  };
  std::vector<std::filesystem::path> segments() const;
  void read_segment(int64_t size, int64_t after, size_t most, std::vector<UsageRecord>& records);
  Place sync_all();
  void sync_loop();

  std::filesystem::path folder_;
  std::string id_;
  std::mutex reading_;        // of the next two, and taken before the other
  Place read_place_;          // where reading ended
  int64_t read_upto_ = -1;    // the record before it
  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_, synced_;
  FileDescriptor file_;
  std::filesystem::path path_;
  int64_t size_ = 0;                                   // of the segment
  int64_t sequence_ = 0;                               // of the last record
  std::string lines_;                                  // not yet written
  int64_t written_ = 0, on_disk_ = 0;                  // writes
  std::unordered_map<std::string, UsageRecord> open_;  // begun, by id
  std::string failure_;                                // of the last sync
  bool stopping_ = false, idle_ = false;
  std::thread thread_;
};

}  // namespace neutrino::cloud
