#include "weights/hub/partial_file.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;

class PartialFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<PartialFile> open() {
    return std::make_unique<PartialFile>(folder_.path(), "id", [] { FAIL() << "nobody else has it"; });
  }
  std::string text(const char* extension) {
    return read_file(folder_.path() / (std::string("id") + extension), 1 << 20);
  }
  testing::TemporaryFolder folder_;
};

TEST_F(PartialFileTest, goes_on_where_it_was) {
  auto part = open();
  EXPECT_EQ(part->bytes(), -1);
  part->begin(10, "\"e\"");
  part->write(2, "cde");
  part->note({2, 5});
  part->write(7, "h");
  part->note({7, 8});
  part.reset();
  part = open();
  EXPECT_EQ(part->bytes(), 10);
  EXPECT_EQ(part->etag(), "\"e\"");
  EXPECT_EQ(part->done(), 4);
  const auto missing = part->missing(2);
  ASSERT_EQ(missing.size(), 3u);
  EXPECT_EQ(missing[1].begin, 5);
  EXPECT_EQ(missing[1].end, 7);
  part->write(0, "ab");
  part->note({0, 2});
  part->write(5, "fg");
  part->note({5, 7});
  EXPECT_FALSE(part->is_whole());
  part->note({8, 10});  // a hole that was never written: holes read as zeros, and the hash finds them
  EXPECT_TRUE(part->is_whole());
  EXPECT_EQ(text(".part").substr(0, 8), "abcdefgh");
  folder_.put(".id.ranges.0123.tmp", "of a process that was killed");
  part.reset();
  part = open();
  part->finish();
  part.reset();
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

// Any beginning of the list of ranges is read as no more than what was written.
TEST_F(PartialFileTest, a_torn_or_foreign_list_of_ranges_claims_nothing_new) {
  auto part = open();
  part->begin(2000, "");
  Random random(1);
  std::vector<bool> there(2000);
  for (int i = 0; i < 30; ++i) {
    const int64_t begin = random.below(1900), end = begin + 1 + random.below(99);
    part->write(begin, std::string(static_cast<size_t>(end - begin), 'x'));
    part->note({begin, end});
  }
  part.reset();
  const std::string bytes = text(".part"), ranges = text(".ranges");
  for (size_t length = 0; length <= ranges.size(); ++length) {
    write_file_atomic(folder_.path() / "id.ranges", ranges.substr(0, length));
    for (const ByteRange& hole : open()->missing(1 << 20)) EXPECT_LE(hole.end, 2000);
    const auto reopened = open();
    if (reopened->bytes() < 0) continue;
    int64_t at = 0;
    for (const ByteRange& hole : reopened->missing(1 << 20)) {
      for (; at < hole.begin; ++at) ASSERT_EQ(bytes[static_cast<size_t>(at)], 'x') << length << " " << at;
      at = hole.end;
    }
  }
  for (const char* foreign : {"", "x", "-5 \n", "10 \n0 11\n", "10 \n5 5\n", "10 \n-1 4\n", "10 \n1 2 3\n",
                              "99999999999999999999 \n"}) {
    write_file_atomic(folder_.path() / "id.ranges", foreign);
    EXPECT_EQ(open()->done(), 0) << foreign;
  }
  fs::remove(folder_.path() / "id.part");
  write_file_atomic(folder_.path() / "id.ranges", "10 \n0 10\n");
  EXPECT_EQ(open()->bytes(), -1);  // ranges of bytes that are not there
}

TEST_F(PartialFileTest, takes_a_file_over_without_changing_it) {
  const auto source = folder_.put("cache/blob", "hello");
  auto part = open();
  EXPECT_FALSE(part->adopt(folder_.path() / "none"));
  fs::create_symlink(source, folder_.path() / "link");
  EXPECT_FALSE(part->adopt(folder_.path() / "link"));
  EXPECT_FALSE(part->adopt(folder_.path()));
  ASSERT_TRUE(part->adopt(source));
  EXPECT_TRUE(part->is_whole());
  EXPECT_EQ(text(".part"), "hello");
  part->begin(5, "");  // as after a hash that was wrong
  part->write(0, "HELLO");
  EXPECT_EQ(read_file(source, 100), "hello");
}

TEST_F(PartialFileTest, who_comes_second_is_told_and_waits) {
  auto first = open();
  bool told = false;
  struct Stop {};
  EXPECT_THROW(PartialFile(folder_.path(), "id",
                           [&] {
                             told = true;
                             throw Stop();
                           }),
               Stop);
  EXPECT_TRUE(told);
  EXPECT_NO_THROW(PartialFile(folder_.path(), "other", [] { FAIL(); }));
}

}  // namespace
}  // namespace neutrino::weights
