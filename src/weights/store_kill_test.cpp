// The store under kill -9, a full disk and neighbours: whatever happens, it is as before or as after.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/fault.h"
#include "base/random.h"
#include "weights/store.h"
#include "weights/testing/gguf_writer.h"
#include "weights/testing/temporary_folder.h"

extern char** environ;

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::tiny_llama;
using testing::TinyLlama;

const ModelName kName = ModelName::parse("tiny");

bool long_run() {
  const char* value = std::getenv("NEUTRINO_TEST_LONG");
  return value && *value && std::string_view(value) != "0";
}

// ---- what must hold after anything

struct StoreState {
  bool whole = true;  // every manifest is good and its blob has its digest
  bool tidy = true;   // no blob without a manifest, nothing in tmp
  size_t models = 0;
};

size_t count_files(const fs::path& folder) {
  if (!fs::exists(folder)) return 0;
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

StoreState inspect(const fs::path& folder) {
  const Store store(folder);
  const StoreListing listing = store.list();
  StoreState state{.whole = listing.broken.empty(), .models = listing.models.size()};
  std::set<std::string> digests;
  for (const Manifest& model : listing.models) {
    digests.insert(model.digest.hex());
    try {
      store.verify(model.name);
    } catch (const Error&) {
      state.whole = false;
    }
  }
  state.tidy = count_files(folder / "blobs") == digests.size() && count_files(folder / "tmp") == 0 &&
               count_files(folder / "manifests") == listing.models.size();
  return state;
}

// ---- a child that does one thing to a store and may be killed in it

// Run by the tests below in a process of its own, as a fault point reads its environment once a process.
TEST(StoreChild, DISABLED_acts) {
  const std::string action = std::getenv("STORE_CHILD_ACTION");
  Store store{fs::path(std::getenv("STORE_CHILD_FOLDER"))};
  if (action == "import") store.import(std::getenv("STORE_CHILD_FILE"), {.name = kName, .source = "test"});
  if (action == "remove") store.remove(kName);
  if (action == "open") store.open(kName);
}

pid_t spawn_child(const std::string& action, const fs::path& folder, const fs::path& file,
                  const std::string& fault) {
  std::vector<std::string> variables = {"STORE_CHILD_ACTION=" + action,
                                        "STORE_CHILD_FOLDER=" + folder.string(),
                                        "STORE_CHILD_FILE=" + file.string()};
  if (!fault.empty()) variables.push_back("NEUTRINO_FAULT=" + fault);
  std::vector<char*> environment;
  for (char** variable = environ; *variable; ++variable) environment.push_back(*variable);
  for (auto& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::string arguments[] = {"weights_test", "--gtest_filter=StoreChild.DISABLED_acts",
                             "--gtest_also_run_disabled_tests", "--gtest_brief=1"};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), arguments[3].data(),
                  nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  check(posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv, environment.data()) == 0,
        "cannot start a child");
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

int wait_for(pid_t pid) {
  int status = 0;
  check(::waitpid(pid, &status, 0) == pid, "cannot wait for a child");
  return status;
}

bool was_killed(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; }

class StoreKill : public ::testing::Test {
 protected:
  StoreKill() {
    file_ = folder_.put("in/tiny.gguf",
                        serialise(tiny_llama({.extra_tokens = 40'000, .seed = 7})));  // several chunks
    other_ = folder_.put("in/other.gguf", serialise(tiny_llama({.seed = 8})));
  }
  void SetUp() override {
    Store(store_).import(other_, {.name = ModelName::parse("other"), .source = "test"});
  }

  int child(const std::string& action, const std::string& fault) {
    return wait_for(spawn_child(action, store_, file_, fault));
  }
  // The other model is untouched, and this one is there and whole or not there.
  void expect_before_or_after() {
    const StoreState state = inspect(store_);
    EXPECT_TRUE(state.whole);
    EXPECT_EQ(state.models, Store(store_).has(kName) ? 2u : 1u);
  }
  // The next import succeeds and leaves nothing of the killed one.
  void expect_healed() {
    Store(store_).import(file_, {.name = kName, .source = "test"});
    const StoreState state = inspect(store_);
    EXPECT_TRUE(state.whole);
    EXPECT_TRUE(state.tidy);
    EXPECT_EQ(state.models, 2u);
  }

  TemporaryFolder folder_;
  fs::path store_ = folder_.path() / "models", file_, other_;
};

TEST_F(StoreKill, an_import_killed_at_any_point_leaves_the_store_whole) {
  if (!kFaultsCompiled) GTEST_SKIP() << "fault points are compiled into the debug and tsan presets";
  const std::pair<const char*, bool> points[] = {
      {"store_copy:kill@1", false},    {"store_copy:kill@2", false},     {"store_copied:kill@1", false},
      {"store_renamed:kill@1", false}, {"store_published:kill@1", true},
  };
  for (const auto& [point, is_there] : points) {
    SCOPED_TRACE(point);
    EXPECT_TRUE(was_killed(child("import", point)));
    expect_before_or_after();
    EXPECT_EQ(Store(store_).has(kName), is_there);
    expect_healed();
    Store(store_).remove(kName);
  }
}

TEST_F(StoreKill, a_removal_killed_half_way_has_removed) {
  if (!kFaultsCompiled) GTEST_SKIP() << "fault points are compiled into the debug and tsan presets";
  Store(store_).import(file_, {.name = kName, .source = "test"});
  EXPECT_TRUE(was_killed(child("remove", "store_removed:kill@1")));
  expect_before_or_after();
  EXPECT_FALSE(Store(store_).has(kName));
  EXPECT_FALSE(inspect(store_).tidy);  // the blob is still there
  expect_healed();
}

TEST_F(StoreKill, an_import_killed_at_random_times_leaves_the_store_whole) {
  const int cycles = long_run() ? 1000 : 40;
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(child("import", ""), 0);
  const auto import_us = (std::chrono::steady_clock::now() - start) / std::chrono::microseconds(1);
  Store(store_).remove(kName);
  Random random(1);
  int killed = 0, there = 0;
  for (int i = 0; i < cycles; ++i) {
    const pid_t pid = spawn_child("import", store_, file_, "");
    ::usleep(static_cast<useconds_t>(random.below(import_us * 5 / 4)));
    ::kill(pid, SIGKILL);
    killed += was_killed(wait_for(pid));
    expect_before_or_after();
    if (!Store(store_).has(kName)) continue;
    ++there;
    Store(store_).remove(kName);
  }
  std::printf("%d of %d imports were killed; %d models were there afterwards\n", killed, cycles, there);
  EXPECT_GE(killed, cycles / 8);
  expect_healed();
}

// The checks above can fail: they find a store that is not whole, and one that is not tidy.
TEST_F(StoreKill, a_half_written_blob_would_be_noticed) {
  Store(store_).import(file_, {.name = kName, .source = "test"});
  ASSERT_TRUE(inspect(store_).whole);
  ASSERT_TRUE(inspect(store_).tidy);
  folder_.put("models/tmp/import-0000000000000000", "left behind");
  EXPECT_FALSE(inspect(store_).tidy);
  const fs::path blob = Store(store_).blob_path(Store(store_).show(kName).digest);
  fs::resize_file(blob, fs::file_size(blob) / 2);
  EXPECT_FALSE(inspect(store_).whole);
}

// ---- a full disk

// Runs `action` in a child process; its exit code says whether it returned true.
template <typename Action>
bool in_child(Action action) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    bool good = false;
    try {
      good = action();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in the child: %s\n", error.what());
    }
    ::_exit(good ? 0 : 1);
  }
  return wait_for(pid) == 0;
}

bool refuses_for_space(Store& store, const fs::path& file, const char* expected, Progress progress = {}) {
  try {
    store.import(file, {.name = kName, .source = "test", .progress = std::move(progress)});
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    return error.code() == ErrorCode::resource_exhausted &&
           error.message().find(expected) != std::string::npos;
  }
  return false;
}

TEST_F(StoreKill, a_limit_on_file_sizes_met_while_copying_is_an_error_and_leaves_nothing) {
  EXPECT_TRUE(in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{300'000, 300'000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    Store store(store_);
    return refuses_for_space(store, file_, "cannot write");
  }));
  const StoreState state = inspect(store_);
  EXPECT_TRUE(state.whole);
  EXPECT_TRUE(state.tidy);
  EXPECT_EQ(state.models, 1u);
}

// On a disk of 4 MiB in a mount namespace of its own, where the system lets us make one.
TEST_F(StoreKill, a_full_disk_is_an_error_with_the_figures_and_leaves_nothing) {
  const fs::path disk = folder_.path() / "disk";
  fs::create_directory(disk);
  const auto mounted = [&] {
    return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=4m") == 0;
  };
  if (!in_child(mounted)) GTEST_SKIP() << "no right to mount a small disk here";
  EXPECT_TRUE(in_child([&] {
    if (!mounted()) return false;
    Store store(disk / "models");
    const auto fill = [&](size_t bytes) { std::ofstream(disk / "filler") << std::string(bytes, 'x'); };
    const auto empty = [&] { return inspect(disk / "models").tidy && store.list().models.empty(); };
    fill(3 << 20);
    if (!refuses_for_space(store, file_, "are free") || !empty()) return false;  // seen before the copy
    fs::remove(disk / "filler");
    bool filled = false;
    const auto fill_once = [&](int64_t, int64_t) {
      if (!std::exchange(filled, true)) fill(4 << 20);
    };
    if (!refuses_for_space(store, file_, "No space left", fill_once) || !empty())
      return false;  // met in the copy
    fs::remove(disk / "filler");
    store.import(file_, {.name = kName, .source = "test"});
    return inspect(disk / "models").whole && inspect(disk / "models").tidy;
  }));
}

// ---- neighbours

TEST_F(StoreKill, two_imports_at_once_end_in_one_model) {
  for (int round = 0; round < (long_run() ? 100 : 5); ++round) {
    const pid_t first = spawn_child("import", store_, file_, ""),
                second = spawn_child("import", store_, file_, "");
    EXPECT_EQ(wait_for(first), 0);
    EXPECT_EQ(wait_for(second), 0);
    const StoreState state = inspect(store_);
    EXPECT_TRUE(state.whole);
    EXPECT_TRUE(state.tidy);
    EXPECT_EQ(state.models, 2u);
    Store(store_).remove(kName);
  }
}

// Three processes that import, open and remove one name, each call an answer or an Error, for a while.
TEST_F(StoreKill, imports_loads_and_removals_at_once_leave_the_store_whole) {
  const int rounds = long_run() ? 2000 : 60;
  const auto work = [&](uint64_t seed) {
    Store store(store_);
    Random random(seed);
    int opened = 0;
    for (int i = 0; i < rounds; ++i) try {
        switch (random.below(3)) {
          case 0: store.import(file_, {.name = kName, .source = "test"}); break;
          case 1: {
            const OpenModel model = store.open(kName);
            opened += model.file->vocabulary().tokens.size() == 40'267;
            break;
          }
          default: store.remove(kName);
        }
      } catch (const Error& error) {
        const auto code = error.code();
        if (code != ErrorCode::not_found && code != ErrorCode::failed_precondition) throw;
      }
    return opened > 0;
  };
  std::vector<pid_t> pids;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const pid_t pid = ::fork();
    if (pid != 0)
      pids.push_back(pid);
    else {
      bool good = false;
      try {
        good = work(seed);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "in the child: %s\n", error.what());
      }
      ::_exit(good ? 0 : 1);
    }
  }
  for (const pid_t pid : pids) EXPECT_EQ(wait_for(pid), 0);
  expect_before_or_after();
  expect_healed();
}

}  // namespace
}  // namespace neutrino::weights
