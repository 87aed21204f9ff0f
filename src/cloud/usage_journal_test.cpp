#include "cloud/usage_journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "base/testing/temporary_folder.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

class UsageJournalTest : public ::testing::Test {
 protected:
  std::vector<std::filesystem::path> segment_files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().extension() == ".jsonl") found.push_back(entry.path());
    return found;
  }
  int64_t segments() const { return std::ssize(segment_files()); }
  const TemporaryFolder temporary;
  const std::filesystem::path folder = temporary.path();
};

UsageRecord usage(int id, int64_t tokens = 1) {
  return {.id = "u-" + std::to_string(id), .key = "k", .output_tokens = tokens};
}

TEST_F(UsageJournalTest, NumbersRecordsAndGivesThemBack) {
  {
    UsageJournal journal(folder);
    EXPECT_EQ(journal.record(usage(1, 5)), 1);
    EXPECT_EQ(journal.record(usage(2, 6)), 2);
    journal.sync();
  }
  UsageJournal journal(folder);
  EXPECT_EQ(journal.last_sequence(), 2);
  EXPECT_EQ(journal.record(usage(3, 7)), 3);
  const auto records = journal.read_after(1, 10);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].id, "u-2");
  EXPECT_EQ(records[1].output_tokens, 7);
  EXPECT_EQ(journal.read_after(0, 1).size(), 1u);
  EXPECT_TRUE(journal.read_after(3, 10).empty());
}

TEST_F(UsageJournalTest, SegmentsGoWhenTheirRecordsAreCounted) {
  UsageJournal journal(folder);
  constexpr int kMany = 12'000;
  UsageRecord large = usage(0);
  large.path = large.model = large.member = std::string(60'000, 'x');  // cut
  UsageRecord open = usage(-1);
  journal.begin(open);
  for (int i = 0; i < kMany; ++i) {
    large.id = std::to_string(i);
    journal.record(large);
  }
  EXPECT_GE(segments(), 3);
  EXPECT_EQ(journal.read_after(kMany - 5, 10).size(), 5u);
  journal.forget(100);
  EXPECT_EQ(journal.read_after(100, 1000).size(), 1000u);
  journal.forget(kMany);
  EXPECT_EQ(segments(), 1);
  UsageJournal again(folder);  // the request that was under way is in the last segment, too
  EXPECT_EQ(again.last_sequence(), kMany + 1);
  EXPECT_EQ(again.read_after(kMany, 10).at(0).id, "u--1");
}

TEST_F(UsageJournalTest, ItsIdIsItsFoldersForAllTime) {
  const std::string id = UsageJournal(folder).id();
  EXPECT_EQ(UsageJournal(folder).id(), id);
  std::filesystem::remove_all(folder);
  EXPECT_NE(UsageJournal(folder).id(), id);  // whose sequence begins anew
}

// A request that was sent to a second replica when the gateway died was there last.
TEST_F(UsageJournalTest, WhatIsLostNamesTheLastReplicaAndCostsWhatIsKnown) {
  UsageRecord begun = usage(1, 0);
  begun.replica = "a";
  begun.input_tokens = 10;
  begun.price_input = 7;
  {
    UsageJournal journal(folder);
    journal.begin(begun);
    begun.replica = "b";
    journal.begin(begun);
  }
  const UsageRecord lost = UsageJournal(folder).read_after(0, 10).at(0);
  EXPECT_EQ(lost.replica, "b");
  EXPECT_EQ(lost.cost, 70);
  EXPECT_FALSE(lost.exact);
}

TEST_F(UsageJournalTest, ALineIsReadableWhateverAClientSent) {
  UsageRecord odd = usage(1);
  odd.model = "a\"b\\c\n\xff\xc3\xa9";
  UsageJournal journal(folder);
  journal.record(odd);
  EXPECT_EQ(journal.read_after(0, 10).at(0).model, "a\"b\\c????");
}

TEST_F(UsageJournalTest, ReadingGoesOnWhereItEndedAndBeginsAnewWhereAsked) {
  { UsageJournal(folder).record(usage(1)); }
  std::ofstream(segment_files().at(0), std::ios::app) << "e {\"sequence\":damaged\n";
  UsageJournal journal(folder);
  for (int i = 2; i <= 50; ++i) journal.record(usage(i));
  int64_t upto = 0;
  for (size_t most = 1; upto < 50; most = most % 7 + 1) {
    const auto records = journal.read_after(upto, most);
    ASSERT_FALSE(records.empty());
    EXPECT_LE(records.size(), most);
    for (const UsageRecord& record : records) EXPECT_EQ(record.sequence, ++upto);
  }
  EXPECT_TRUE(journal.read_after(50, 10).empty());
  journal.record(usage(51));
  EXPECT_EQ(journal.read_after(50, 10).at(0).sequence, 51);
  EXPECT_EQ(journal.read_after(7, 10).at(0).sequence, 8);
  EXPECT_EQ(journal.read_after(0, 100).size(), 51u);
}

TEST_F(UsageJournalTest, ATornLineIsLeftOut) {
  { UsageJournal(folder).record(usage(1)); }
  std::ofstream(segment_files().at(0), std::ios::app) << "e {\"sequence\":2,\"id\":\"half";
  UsageJournal journal(folder);
  EXPECT_EQ(journal.last_sequence(), 1);
  EXPECT_EQ(journal.record(usage(2)), 2);
  EXPECT_EQ(journal.read_after(0, 10).size(), 2u);
}

// Writers are killed at any moment: what they were told is recorded, once, and what was begun and not ended comes back as lost.
void kill_writers(const std::filesystem::path& folder, int kills) {
  int64_t told = 0, begun = 0;
  for (int kill_number = 0; kill_number < kills; ++kill_number) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    ASSERT_GT(::fcntl(pipe[1], F_SETPIPE_SZ, 4096), 0);  // so far a writer may be ahead
    const pid_t child = ::fork();
    if (child == 0) {
      UsageJournal journal(folder);
      for (int i = 0;; ++i) {
        const UsageRecord record = usage(kill_number * 1'000'000 + i);
        journal.begin(record);
        journal.flush();
        const char began = 'b', ended = 'e';
        if (::write(pipe[1], &began, 1) != 1) ::_exit(1);
        journal.record(record);
        if (::write(pipe[1], &ended, 1) != 1) ::_exit(1);
      }
    }
    ::close(pipe[1]);
    char said = 0;
    for (int i = 0; i < 20 + kill_number % 37 && ::read(pipe[0], &said, 1) == 1; ++i)
      (said == 'b' ? begun : told) += 1;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(pipe[0], &said, 1) == 1) (said == 'b' ? begun : told) += 1;
    ::close(pipe[0]);
  }
  UsageJournal journal(folder);
  std::set<std::string> ids;
  int64_t expected = 1;
  for (const UsageRecord& record : journal.read_after(0, 1'000'000)) {
    EXPECT_TRUE(ids.insert(record.id).second) << record.id;
    EXPECT_EQ(record.sequence, expected++);
  }
  EXPECT_GT(told, kills * 5);
  EXPECT_GE(static_cast<int64_t>(ids.size()), begun);  // all that was begun, lost ones included
  EXPECT_LE(static_cast<int64_t>(ids.size()),
            begun + kills);  // and one a kill whose beginning was not told any more
}

TEST_F(UsageJournalTest, Kills) {
  const int journals =
      std::getenv("NEUTRINO_TEST_LONG") ? 25 : 1;  // each start reads all that its journal has
  for (int i = 0; i < journals; ++i) kill_writers(folder / std::to_string(i), 40);
}

}  // namespace
}  // namespace neutrino::cloud
