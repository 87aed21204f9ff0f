// Sealed values open with their own context and a known key only; the key file is private.
#include "cloud/secret_box.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "cloud/base64url.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

namespace fs = std::filesystem;

class SecretBoxTest : public ::testing::Test {
 protected:
  fs::path file() const { return folder_.path() / "secret.key"; }

  store::testing::TemporaryFolder folder_;
};

ErrorCode failure(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::cancelled;  // none
}

TEST_F(SecretBoxTest, what_is_sealed_opens_with_its_context) {
  const SecretBox box(file());
  for (const std::string& plain : {std::string(), std::string("hunter2"), std::string(100'000, '\xff')}) {
    const std::string sealed = box.seal(plain, secret_context("w1", "sec-1"));
    EXPECT_EQ(box.open(sealed, secret_context("w1", "sec-1")), plain);
    EXPECT_NE(sealed, box.seal(plain, secret_context("w1", "sec-1")));
    for (const std::string& other :
         {secret_context("w2", "sec-1"), secret_context("w1", "sec-2"), std::string()})
      EXPECT_EQ(failure([&] { box.open(sealed, other); }), ErrorCode::data_loss) << other;
  }
  EXPECT_EQ(box.seal("hunter2", "c").find("hunter2"), std::string::npos);
}

TEST_F(SecretBoxTest, what_was_changed_does_not_open) {
  const SecretBox box(file());
  const std::string sealed = box.seal("hunter2", "c");
  for (size_t i = 0; i < sealed.size(); ++i) {
    std::string damaged = sealed;
    damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
    EXPECT_EQ(failure([&] { box.open(damaged, "c"); }), ErrorCode::data_loss) << i;
    EXPECT_EQ(failure([&] { box.open(sealed.substr(0, i), "c"); }), ErrorCode::data_loss) << i;
  }
}

TEST_F(SecretBoxTest, the_key_file_is_private_and_lasts) {
  const std::string sealed = SecretBox(file()).seal("hunter2", "c");
  struct stat status {};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(SecretBox(file()).open(sealed, "c"), "hunter2");
  for (const mode_t mode : {0640, 0604, 0620}) {
    ::chmod(file().c_str(), mode);
    EXPECT_EQ(failure([&] { SecretBox box(file()); }), ErrorCode::permission_denied) << mode;
  }
}

TEST_F(SecretBoxTest, a_rotated_file_seals_with_its_first_key_and_opens_with_all) {
  const std::string sealed = SecretBox(file()).seal("hunter2", "c");
  const std::string old_key = read_file(file(), 1000);
  const std::string new_key(64, 'a');
  write_file_atomic(file(), new_key + "\n" + old_key, 0600);
  EXPECT_EQ(SecretBox(file()).open(sealed, "c"), "hunter2");
  const std::string sealed_again = SecretBox(file()).seal("hunter2", "c");
  write_file_atomic(file(), new_key, 0600);
  EXPECT_EQ(SecretBox(file()).open(sealed_again, "c"), "hunter2");
  EXPECT_EQ(failure([&] { SecretBox(file()).open(sealed, "c"); }), ErrorCode::data_loss);
}

TEST_F(SecretBoxTest, a_file_without_keys_is_refused) {
  for (const std::string& content :
       {std::string(), std::string("secret"), std::string(64, 'x'), std::string(63, 'a')}) {
    write_file_atomic(file(), content, 0600);
    EXPECT_EQ(failure([&] { SecretBox box(file()); }), ErrorCode::invalid_argument) << content;
  }
}

TEST_F(SecretBoxTest, processes_that_start_at_once_agree_on_a_key) {
  std::vector<std::string> sealed(4);
  std::vector<std::thread> threads;
  for (std::string& text : sealed) threads.emplace_back([&] { text = SecretBox(file()).seal("x", "c"); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : sealed) EXPECT_EQ(SecretBox(file()).open(text, "c"), "x");
}

TEST(Base64Url, goes_both_ways) {
  const std::pair<std::string, std::string> rows[] = {
      {"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"\xfb\xff", "-_8"}};
  for (const auto& [bytes, text] : rows) {
    EXPECT_EQ(to_base64url(bytes), text);
    EXPECT_EQ(from_base64url(text), bytes);
  }
  for (const std::string_view bad : {"Zg==", "Zh", "Z", "Zm9vZ", "Zm 9", "+/8"})
    EXPECT_EQ(from_base64url(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace neutrino::cloud
