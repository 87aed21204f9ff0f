#include "cloud/providers/log_spool.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "base/testing/temporary_folder.h"

namespace neutrino::cloud {
namespace {

namespace fs = std::filesystem;

size_t count(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Everything from a cursor on, in pieces of `piece` bytes.
std::string read_all(const fs::path& folder, int64_t cursor, int64_t piece, int64_t* lost = nullptr) {
  std::string all;
  for (;;) {
    const LogChunk chunk = read_log_spool(folder, cursor, piece);
    if (lost) *lost += chunk.lost_bytes;
    if (chunk.text.empty() && chunk.next == cursor) return all;
    all += chunk.text;
    cursor = chunk.next;
  }
}

TEST(LogSpool, what_was_written_is_read_from_any_position_in_any_pieces) {
  TemporaryFolder folder;
  LogSpool spool(folder.path() / "log", 10, 100);
  const std::string text = "one\ntwo\nthree\nfour, which is longer than a file\nfive\n";
  for (size_t at = 0; at < text.size(); at += 7) spool.append(text.substr(at, 7));
  EXPECT_EQ(spool.end(), static_cast<int64_t>(text.size()));
  for (const int64_t piece : {1, 3, 10, 1000})
    for (size_t from = 0; from <= text.size(); ++from)
      EXPECT_EQ(read_all(folder.path() / "log", static_cast<int64_t>(from), piece), text.substr(from));
}

TEST(LogSpool, a_negative_cursor_is_the_tail_from_a_whole_line) {
  TemporaryFolder folder;
  LogSpool spool(folder.path(), 1000, 2);
  spool.append("one\ntwo\nthree\n");
  EXPECT_EQ(read_log_spool(folder.path(), -6, 100).text, "three\n");
  EXPECT_EQ(read_log_spool(folder.path(), -7, 100).text, "three\n");
  EXPECT_EQ(read_log_spool(folder.path(), -10, 100).text, "two\nthree\n");
  EXPECT_EQ(read_log_spool(folder.path(), -1000, 100).text, "one\ntwo\nthree\n");
  EXPECT_EQ(read_log_spool(folder.path(), INT64_MIN, 100).text, "one\ntwo\nthree\n");
  EXPECT_EQ(read_log_spool(folder.path(), INT64_MAX, 100).text, "");
  EXPECT_EQ(read_log_spool(folder.path(), INT64_MAX, 100).next, 14);
}

TEST(LogSpool, an_empty_log_is_empty) {
  TemporaryFolder folder;
  EXPECT_EQ(read_log_spool(folder.path() / "none", 0, 100).text, "");
  EXPECT_EQ(read_log_spool(folder.path() / "none", -5, 100).next, 0);
}

TEST(LogSpool, keeps_so_many_files_and_says_what_is_gone) {
  TemporaryFolder folder;
  LogSpool spool(folder.path(), 10, 3);
  std::string text;
  for (int i = 0; i < 20; ++i) text += fmt::format("line {:04}\n", i);
  spool.append(text);
  EXPECT_EQ(count(folder.path()), 3u);
  int64_t lost = 0;
  EXPECT_EQ(read_all(folder.path(), 0, 1000, &lost), text.substr(170));
  EXPECT_EQ(lost, 170);
}

TEST(LogSpool, goes_on_where_another_left_off) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 30; ++i) {
    LogSpool spool(folder.path(), 10, 100);
    EXPECT_EQ(spool.end(), static_cast<int64_t>(text.size()));
    const std::string line = fmt::format("run {}\n", i);
    spool.append(line);
    text += line;
  }
  EXPECT_EQ(read_all(folder.path(), 0, 1000), text);
}

TEST(LogSpool, follows_while_files_are_rotated_and_loses_nothing) {
  TemporaryFolder folder;
  std::atomic<bool> done{false};
  std::string written, seen;
  std::thread writer([&] {
    LogSpool spool(folder.path(), 997, 1'000'000);
    Random random(1);
    for (int i = 0; i < 20'000; ++i) {
      const std::string line =
          fmt::format("{} {}\n", i, std::string(static_cast<size_t>(random.below(60)), 'x'));
      spool.append(line);
      written += line;
    }
    done = true;
  });
  int64_t cursor = 0, lost = 0;
  for (bool last = false; !last;) {
    last = done;
    for (;;) {
      const LogChunk chunk = read_log_spool(folder.path(), cursor, 4096);
      if (chunk.next == cursor) break;
      seen += chunk.text;
      lost += chunk.lost_bytes;
      cursor = chunk.next;
    }
  }
  writer.join();
  EXPECT_EQ(lost, 0);
  EXPECT_TRUE(seen == written) << seen.size() << " of " << written.size();
}

TEST(LogSpool, a_slow_reader_is_told_what_it_missed) {
  TemporaryFolder folder;
  LogSpool spool(folder.path(), 100, 2);
  spool.append(std::string(50, 'a'));
  const LogChunk first = read_log_spool(folder.path(), 0, 1000);
  spool.append(std::string(1000, 'b'));
  const LogChunk second = read_log_spool(folder.path(), first.next, 1000);
  EXPECT_EQ(second.lost_bytes + first.next, 900);
  EXPECT_EQ(second.text, std::string(100, 'b'));
}

TEST(LogSpool, a_hole_between_files_is_passed) {
  TemporaryFolder folder;
  folder.put("00000000000000000000.log", "abc");
  folder.put("00000000000000000010.log", "def");
  folder.put("not-a-log", "x");
  folder.put("-5.log", "x");
  int64_t lost = 0;
  EXPECT_EQ(read_all(folder.path(), 0, 100, &lost), "abcdef");
  EXPECT_EQ(lost, 7);
}

// A file size limit stands for a full disk: write() fails in the same places, and it needs no right to mount one.
TEST(LogSpool, what_a_full_disk_does_not_take_is_counted_and_told_of) {
  TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    LogSpool spool(folder.path(), 100'000, 2);
    spool.append("before\n");
    const rlimit full{.rlim_cur = 10, .rlim_max = RLIM_INFINITY},
        free{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &full);
    spool.append("lost, but for three bytes\n");
    spool.append("lost\n");
    ::setrlimit(RLIMIT_FSIZE, &free);
    spool.append("after\n");
    ::_exit(spool.left_out() == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_all(folder.path(), 0, 1000),
            "before\nlos[neutrino: 28 bytes of output could not be kept: File too large]\nafter\n");
}

TEST(LogSpool, a_folder_that_cannot_be_written_stops_nobody) {
  TemporaryFolder folder;
  folder.put("log", "a file where a folder should be");
  LogSpool spool(folder.path() / "log", 100, 2);
  spool.append("lost\n");
  EXPECT_EQ(spool.left_out(), 5);
  EXPECT_EQ(spool.end(), 0);
}

}  // namespace
}  // namespace neutrino::cloud
