// kill -9 of a process that counts usage, at any moment: each record is counted, and none twice. NEUTRINO_TEST_LONG=1: more kills.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "base/process.h"
#include "base/random.h"
#include "cloud/testing/ledger_checks.h"
#include "cloud/testing/programs.h"
#include "cloud/usage_journal.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

using testing::count_of;

class UsageKillTest : public store::testing::OnBothEngines {
 protected:
  int64_t kills() const { return store::testing::long_run() ? 300 : 6; }

  // Records of one journal; returns what they cost.
  int64_t fill(const std::filesystem::path& folder, int64_t records) {
    UsageJournal journal(folder);
    int64_t cost = 0;
    for (int64_t i = 1; i <= records; ++i) {
      const int64_t tokens = random_.below(1000);
      cost += tokens;
      journal.record({.id = fmt::format("u-{}", i),
                      .workspace = "w",
                      .endpoint = "e",
                      .key = fmt::format("k{}", i % 3),
                      .model = "chat",
                      .status = 200,
                      .exact = true,
                      .started_ms = 1'792'000'000'000 + i * 10'000,
                      .input_tokens = tokens,
                      .cost = tokens});
    }
    return cost;
  }

  // Kills it at some moment of its first batches; false: it had ended.
  bool run_and_kill(const std::string& url, const std::filesystem::path& journal) {
    int pipe[2];
    EXPECT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    const FileDescriptor out(pipe[0]);
    FileDescriptor in(pipe[1]);
    std::vector<std::string> argv = testing::program("usage-counter");
    argv.insert(argv.end(), {url, journal.string()});
    const ProcessIdentity process = spawn({.argv = argv, .output = in.get(), .error = STDERR_FILENO});
    in = FileDescriptor();
    char said = 0;
    for (int64_t batches = random_.below(4); batches > 0 && ::read(out.get(), &said, 1) == 1;) --batches;
    std::this_thread::sleep_for(std::chrono::microseconds(random_.below(3000)));
    signal_process(process, SIGKILL);
    return wait_for(process.pid).signal == SIGKILL;
  }
  bool run_to_its_end(const std::string& url, const std::filesystem::path& journal) {
    std::vector<std::string> argv = testing::program("usage-counter");
    argv.insert(argv.end(), {url, journal.string()});
    return wait_for(spawn({.argv = argv, .error = STDERR_FILENO}).pid).code == 0;
  }

  Random random_{11};
};
NEUTRINO_ON_BOTH_ENGINES(UsageKillTest);

TEST_P(UsageKillTest, EachRecordIsCountedOnce) {
  const std::string url = new_url();
  const std::filesystem::path journal = folder() / "journal";
  const int64_t records = 100 * kills();
  const int64_t cost = fill(journal, records);
  int64_t killed = 0;
  for (int64_t i = 0; i < kills(); ++i) killed += int64_t{run_and_kill(url, journal)};
  EXPECT_GT(killed, kills() / 2);
  ASSERT_TRUE(run_to_its_end(url, journal));
  store::Database database({.url = url});
  EXPECT_EQ(count_of(database, "SELECT COUNT(*) FROM usage_requests"), records);
  EXPECT_EQ(count_of(database, "SELECT CAST(SUM(cost) AS BIGINT) FROM usage_hours"), cost);
  testing::expect_sums_agree(database, Tables(), 1'792'000'000'000);
}

}  // namespace
}  // namespace neutrino::cloud
