// kill -9 at any moment of start, stop and re-adoption: nothing is lost and nothing is doubled.
//
// A controller process makes real what the file `desired` says. The test changes the file at random and kills the controller
// (or keepers) at random moments. Each replica's first act is a line in a journal, so a second start of the same
// generation shows. NEUTRINO_TEST_LONG=1: ten times as many kills.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/process.h"
#include "base/random.h"
#include "base/testing/temporary_folder.h"
#include "cloud/providers/local.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;

int64_t kills() { return std::getenv("NEUTRINO_TEST_LONG") != nullptr ? 500 : 50; }

struct Start {
  std::string id;
  int64_t generation = 0;
  pid_t pid = 0;
};

class Chaos {
 public:
  explicit Chaos(uint64_t seed, const char* keeper = "keeper") : random_(seed), keeper_(keeper) {
    fs::create_directory(replicas());
    write_desired();
    start_controller();
  }
  ~Chaos() {
    desired_.clear();
    write_desired();
    EXPECT_TRUE(keeper_ != "keeper" || converges());
    signal_process(controller_, SIGKILL);
    wait_for(controller_.pid);
    for (const Start& start : journal())
      if (const auto process = identify(start.pid); process && find_generation(start))
        signal_process(*process, SIGKILL);
  }

  // One thing: a replica more, one less, or the next generation of one.
  void change() {
    const int64_t what = desired_.empty() ? 0 : random_.below(3);
    if (what == 0 && desired_.size() < 6)
      desired_[fmt::format("r{}", ++last_)] = 1;
    else if (what == 1)
      desired_.erase(any());
    else if (!desired_.empty())
      ++any()->second;
    write_desired();
  }
  void pause() { std::this_thread::sleep_for(std::chrono::microseconds(random_.below(30'000))); }
  void kill_controller() {
    signal_process(controller_, SIGKILL);
    wait_for(controller_.pid);
    start_controller();
  }
  // False: there is none at this moment.
  bool kill_keeper() {
    std::vector<ProcessIdentity> keepers;
    for (const auto& entry : fs::directory_iterator(replicas()))
      if (const auto keeper = ReplicaFolder(entry.path()).keeper()) keepers.push_back(*keeper);
    if (keepers.empty()) return false;
    const ProcessIdentity keeper =
        keepers[static_cast<size_t>(random_.below(static_cast<int64_t>(keepers.size())))];
    return signal_process(keeper, SIGKILL);
  }
  // What a reconciler does when a wanted replica is over: the next generation.
  void restart_lost() {
    LocalProvider provider({.folder = replicas(), .keeper_command = {"true"}});
    for (const ObservedReplica& replica : provider.observe())
      if (const auto wanted = desired_.find(replica.id); wanted != desired_.end() &&
                                                         replica.phase == ReplicaPhase::exited &&
                                                         replica.generation == wanted->second)
        ++wanted->second;
    write_desired();
  }

  // What runs is what is wanted, each once.
  bool converges() {
    for (int i = 0; i < 3000; ++i) {
      if (running() == desired_) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  std::string state() {
    std::string text = "wanted:";
    for (const auto& [id, generation] : desired_) text += fmt::format(" {}#{}", id, generation);
    text += "; runs:";
    for (const auto& [id, generation] : running()) text += fmt::format(" {}#{}", id, generation);
    return text;
  }
  // The replica starts that happened twice.
  std::vector<std::string> doubled() const {
    std::vector<std::string> found;
    std::set<std::pair<std::string, int64_t>> seen;
    for (const Start& start : journal())
      if (!seen.emplace(start.id, start.generation).second)
        found.push_back(fmt::format("{}#{}", start.id, start.generation));
    return found;
  }
  size_t starts() const { return journal().size(); }

 private:
  fs::path replicas() const { return folder_.path() / "replicas"; }
  std::map<std::string, int64_t>::iterator any() {
    return std::next(desired_.begin(), random_.below(static_cast<int64_t>(desired_.size())));
  }
  void write_desired() {
    std::string text;
    for (const auto& [id, generation] : desired_) text += fmt::format("{} {}\n", id, generation);
    write_file_atomic(folder_.path() / "desired", text);
  }
  void start_controller() {
    SpawnOptions options{.argv = testing::program("controller"), .error = 2, .group = ProcessGroup::session};
    options.argv.push_back(folder_.path().string());
    options.argv.push_back(keeper_);
    controller_ = spawn(options);
  }
  std::vector<Start> journal() const {
    std::error_code missing;
    if (!fs::exists(folder_.path() / "journal", missing)) return {};
    std::istringstream lines(read_file(folder_.path() / "journal", 16 << 20));
    std::vector<Start> starts;
    for (Start start; lines >> start.id >> start.generation >> start.pid;) starts.push_back(start);
    return starts;
  }
  // By the processes themselves, not by what anybody says of them. An id that runs twice has generation -1.
  std::map<std::string, int64_t> running() const {
    std::map<std::string, int64_t> found;
    for (const Start& start : journal()) {
      const auto process = identify(start.pid);
      if (!process || !is_running(*process)) continue;
      if (!find_generation(start)) continue;
      if (!found.emplace(start.id, start.generation).second) found[start.id] = -1;
    }
    return found;
  }
  bool find_generation(const Start& start) const {  // the pid is still the one of the journal
    try {
      const std::string environment = read_file(fmt::format("/proc/{}/environ", start.pid), 1 << 20);
      return environment.find(ReplicaFolder(replicas() / start.id).mark() + '\0') != std::string::npos &&
             environment.find(fmt::format("NEUTRINO_GENERATION={}", start.generation) + '\0') !=
                 std::string::npos;
    } catch (const Error&) {
      return false;
    }
  }

  TemporaryFolder folder_;
  Random random_;
  std::string keeper_;
  std::map<std::string, int64_t> desired_;
  int64_t last_ = 0;
  ProcessIdentity controller_;
};

TEST(LocalKill, of_the_control_plane_at_random_moments_loses_and_doubles_nothing) {
  Chaos chaos(7);
  for (int64_t i = 0; i < kills(); ++i) {
    chaos.change();
    chaos.pause();
    chaos.kill_controller();
    if (i % 10 == 9) {
      ASSERT_TRUE(chaos.converges()) << chaos.state();
    }
    ASSERT_THAT(chaos.doubled(), IsEmpty());
  }
  EXPECT_TRUE(chaos.converges()) << chaos.state();
  EXPECT_THAT(chaos.doubled(), IsEmpty());
  EXPECT_GT(chaos.starts(), static_cast<size_t>(kills()) / 5);
}

TEST(LocalKill, would_show_a_keeper_that_takes_no_lock) {
  Chaos chaos(9, "careless-keeper");
  for (int i = 0; i < 300 && chaos.doubled().empty(); ++i) {  // not even a kill is needed: ticks suffice
    chaos.change();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(chaos.doubled(), ::testing::Not(IsEmpty()));
}

TEST(LocalKill, of_keepers_at_random_moments_leaves_no_replica_without_one) {
  Chaos chaos(8);
  int64_t killed = 0;
  while (killed < kills()) {
    chaos.change();
    chaos.pause();
    killed += chaos.kill_keeper();
    chaos.pause();
    chaos.restart_lost();
    ASSERT_THAT(chaos.doubled(), IsEmpty());
  }
  for (int i = 0; i < 20; ++i) {
    chaos.restart_lost();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_TRUE(chaos.converges()) << chaos.state();
  EXPECT_THAT(chaos.doubled(), IsEmpty());
}

}  // namespace
}  // namespace neutrino::cloud
