// Against folders that look like the kernel's, in both versions; local_test.cpp has the real thing.
#include "cloud/providers/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/testing/temporary_folder.h"

namespace neutrino::cloud {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr CgroupLimits kLimits{.memory_bytes = 1 << 30, .cores = 1.5, .processes = 100};

std::string text(const TemporaryFolder& root, const char* file) {
  return read_file(root.path() / file, 1000);
}

TEST(Cgroup, version_1_has_a_folder_for_each_controller) {
  TemporaryFolder root;
  root.put("proc/self/cgroup", "3:memory:/box\n2:cpu,cpuacct:/box\n1:pids:/\n0::/\n");
  for (const char* file :
       {"memory/box/r/memory.limit_in_bytes", "memory/box/r/cgroup.procs", "cpu/box/r/cpu.cfs_quota_us",
        "cpu/box/r/cgroup.procs", "pids/r/pids.max", "pids/r/cgroup.procs"})
    root.put(std::string("sys/fs/cgroup/") + file, "");
  const Cgroup group = Cgroup::make("r", kLimits, root.path());
  EXPECT_EQ(group.note(), "");
  EXPECT_THAT(group.enter(), SizeIs(3));
  EXPECT_EQ(text(root, "sys/fs/cgroup/memory/box/r/memory.limit_in_bytes"), "1073741824");
  EXPECT_EQ(text(root, "sys/fs/cgroup/cpu/box/r/cpu.cfs_quota_us"), "150000");
  EXPECT_EQ(text(root, "sys/fs/cgroup/pids/r/pids.max"), "100");
}

TEST(Cgroup, version_2_has_one_folder) {
  TemporaryFolder root;
  root.put("proc/self/cgroup", "0::/user.slice/box\n");
  const std::string box = "sys/fs/cgroup/user.slice/box/";
  root.put("sys/fs/cgroup/cgroup.controllers", "memory cpu pids\n");
  root.put(box + "cgroup.controllers", "memory cpu pids\n");
  root.put(box + "cgroup.subtree_control", "cpu memory pids\n");
  for (const char* file : {"memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.procs"})
    root.put(box + "r/" + file, "");
  const Cgroup group = Cgroup::make("r", kLimits, root.path());
  EXPECT_EQ(group.note(), "");
  EXPECT_THAT(group.enter(), SizeIs(1));
  EXPECT_EQ(text(root, (box + "r/memory.max").c_str()), "1073741824");
  EXPECT_EQ(text(root, (box + "r/memory.swap.max").c_str()), "0");
  EXPECT_EQ(text(root, (box + "r/cpu.max").c_str()), "150000 100000");
  EXPECT_EQ(text(root, (box + "r/pids.max").c_str()), "100");
}

TEST(Cgroup, version_2_gets_its_controllers_first) {
  TemporaryFolder root;
  root.put("proc/self/cgroup", "0::/neutrino-main\n");  // where an earlier keeper moved us
  root.put("sys/fs/cgroup/cgroup.controllers", "memory\n");
  root.put("sys/fs/cgroup/neutrino-main/cgroup.controllers", "memory\n");
  root.put("sys/fs/cgroup/cgroup.subtree_control", "");
  root.put("sys/fs/cgroup/r/memory.max", "");
  root.put("sys/fs/cgroup/r/cgroup.procs", "");
  const Cgroup group = Cgroup::make("r", {.memory_bytes = 1 << 20}, root.path());
  EXPECT_EQ(group.note(), "");
  EXPECT_EQ(text(root, "sys/fs/cgroup/cgroup.subtree_control"), "+memory");
  EXPECT_EQ(text(root, "sys/fs/cgroup/r/memory.max"), "1048576");
}

TEST(Cgroup, a_mixture_takes_each_controller_where_it_is) {
  TemporaryFolder root;
  root.put("proc/self/cgroup", "3:memory:/\n0::/\n");
  root.put("sys/fs/cgroup/memory/r/memory.limit_in_bytes", "");
  root.put("sys/fs/cgroup/memory/r/cgroup.procs", "");
  root.put("sys/fs/cgroup/unified/cgroup.controllers", "cpu\n");
  root.put("sys/fs/cgroup/unified/cgroup.subtree_control", "cpu\n");
  root.put("sys/fs/cgroup/unified/r/cpu.max", "");
  root.put("sys/fs/cgroup/unified/r/cgroup.procs", "");
  const Cgroup group = Cgroup::make("r", kLimits, root.path());
  EXPECT_THAT(group.enter(), SizeIs(2));
  EXPECT_EQ(group.note(), "no limit on number of processes (no control group with the pids controller here)");
}

TEST(Cgroup, says_what_does_not_work_and_why) {
  TemporaryFolder root;
  const Cgroup none = Cgroup::make("r", kLimits, root.path());
  EXPECT_THAT(
      none.note(),
      HasSubstr("no limit on memory (no control group with the memory controller here); no limit on"));
  EXPECT_THAT(none.enter(), SizeIs(0));
  EXPECT_EQ(Cgroup::make("r", {}, root.path()).note(), "");  // nothing was asked for

  root.put("proc/self/cgroup", "3:memory:/\n");
  root.put("sys/fs/cgroup/memory/tasks", "");
  const Cgroup closed = Cgroup::make("r", {.memory_bytes = 1},
                                     root.path());  // the kernel's files do not appear in a mere folder
  EXPECT_THAT(closed.note(), HasSubstr("cannot be entered"));
  EXPECT_THAT(closed.enter(), SizeIs(0));
}

TEST(Cgroup, tells_of_kills_for_memory_in_both_versions) {
  TemporaryFolder root;
  root.put("v1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
  root.put("v2/memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n");
  EXPECT_EQ(Cgroup::found({root.path() / "v1"}).kills_for_memory(), 2);
  EXPECT_EQ(Cgroup::found({root.path() / "v2"}).kills_for_memory(), 1);
  EXPECT_EQ(Cgroup::found({root.path() / "none"}).kills_for_memory(), 0);
}

}  // namespace
}  // namespace neutrino::cloud
