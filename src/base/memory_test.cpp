#include "base/memory.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"

namespace neutrino {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGiB = 1 << 30;

// A machine made of files: 8 GiB available, until a test adds a group.
class Memory : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/neutrino_memory_XXXXXX";
    ASSERT_TRUE(mkdtemp(folder));
    root_ = folder;
    put("proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n");
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const fs::path& path, std::string_view text) {
    fs::create_directories((root_ / path).parent_path());
    write_file_atomic(root_ / path, text);
  }
  int64_t available() { return available_memory(root_).bytes; }

  fs::path root_;
};

TEST_F(Memory, is_what_the_machine_has) {
  EXPECT_EQ(available(), 8 * kGiB);
  EXPECT_EQ(available_memory(root_).source, "this machine (MemAvailable)");
}

TEST_F(Memory, is_bounded_by_a_version_2_group_and_cached_pages_count_as_free) {
  put("proc/self/cgroup", "0::/app\n");
  put("sys/fs/cgroup/app/memory.max", "2147483648\n");
  put("sys/fs/cgroup/app/memory.current", "1610612736\n");
  put("sys/fs/cgroup/app/memory.stat", "inactive_anon 5\ninactive_file 536870912\n");
  EXPECT_EQ(available(), kGiB);
}

TEST_F(Memory, is_bounded_by_the_groups_above) {
  put("proc/self/cgroup", "0::/a/b\n");
  put("sys/fs/cgroup/a/b/memory.max", "max\n");
  put("sys/fs/cgroup/a/b/memory.current", "5\n");
  put("sys/fs/cgroup/a/memory.max", "1073741824\n");
  put("sys/fs/cgroup/a/memory.current", "0\n");
  EXPECT_EQ(available(), kGiB);
}

TEST_F(Memory, is_bounded_by_a_version_1_group) {
  put("proc/self/cgroup", "4:cpu,memory:/job\n0::/\n");
  put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3221225472\n");
  put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1073741824\n");
  EXPECT_EQ(available(), 2 * kGiB);
  put("sys/fs/cgroup/memory/job/memory.limit_in_bytes",
      "9223372036854771712\n");  // version 1's way to say none
  EXPECT_EQ(available(), 8 * kGiB);
}

TEST_F(Memory, too_little_is_refused_with_the_figures) {
  EXPECT_NO_THROW(require_memory(8 * kGiB, "model tiny", root_));
  try {
    require_memory(9 * kGiB, "model tiny", root_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::resource_exhausted);
    EXPECT_EQ(
        error.message(),
        "model tiny needs 9.0 GiB of memory, but only 8.0 GiB are available by this machine (MemAvailable)");
  }
}

TEST_F(Memory, of_this_machine_can_be_read) { EXPECT_GT(available_memory().bytes, 0); }

TEST(SizeText, has_one_decimal) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text((1 << 20) - 1), "1.0 MiB");
}

}  // namespace
}  // namespace neutrino
