#include "net/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "net/file_watch.h"
#include "net/limits.h"

namespace neutrino::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Request with(std::vector<Header> headers) { return {.headers = std::move(headers)}; }

Request bearer(std::string_view key) { return with({{"authorization", "Bearer " + std::string(key)}}); }

class KeyFile {
 public:
  explicit KeyFile(std::string_view text)
      : path_(std::filesystem::temp_directory_path() / fmt::format("neutrino-keys-{}", getpid())) {
    write(text);
  }
  ~KeyFile() { std::filesystem::remove(path_); }
  void write(std::string_view text) const { write_file_atomic(path_, text, 0600); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::string fault_of(std::string_view text) {
  const KeyFile file(text);
  ApiKeys keys;
  try {
    keys.add_file(file.path());
  } catch (const Error& error) {
    const std::string message = error.message();
    EXPECT_THAT(message, HasSubstr(file.path().string()));
    return message.substr(file.path().string().size());
  }
  return "";
}

TEST(ApiKeys, AcceptEveryCarrierOfAKnownKey) {
  ApiKeys keys;
  keys.add("ci", "key-one");
  keys.add("ops", "key-two");
  EXPECT_EQ(keys.authenticate(with({{"authorization", "Bearer key-one"}})).name, "ci");
  EXPECT_EQ(keys.authenticate(with({{"authorization", "bearer  key-two"}})).name, "ops");
  EXPECT_EQ(keys.authenticate(with({{"x-api-key", "key-two"}})).name, "ops");
}

TEST(ApiKeys, RefuseEverythingElse) {
  ApiKeys keys;
  keys.add("ci", "key-one");
  const std::vector<Header> wrong[] = {
      {},
      {{"authorization", "Bearer"}},
      {{"authorization", "Bearer "}},
      {{"authorization", "Bearer key-onE"}},
      {{"authorization", "Bearer key-one "}},
      {{"authorization", "Basic key-one"}},
      {{"authorization", "Be key-one"}},
      {{"authorization", "Bearerbearer key-one"}},
      {{"authorization", "key-one"}},
      {{"x-api-key", "key-on"}},
      {{"x-api-key", "key-one2"}},
      {{"x-api-key", std::string(1 << 16, 'k')}},
      // a wrong bearer is not rescued by a right x-api-key: one carrier is looked at
      {{"authorization", "Bearer nope"}, {"x-api-key", "key-one"}},
  };
  for (const auto& headers : wrong) {
    try {
      keys.authenticate(with(headers));
      ADD_FAILURE() << headers.size();
    } catch (const Error& error) {
      EXPECT_EQ(error.reason(), "invalid_api_key");
    }
  }
  EXPECT_THROW(keys.add("bad", ""), Error);
  EXPECT_THROW(keys.add("bad", "with space"), Error);
  EXPECT_THROW(keys.add("ci", "key-three"), Error);
  EXPECT_THROW(keys.add("other", "key-one"), Error);
}

TEST(KeyFile, GivesNamesScopesAndLimits) {
  const KeyFile file(
      "# who may come\r\n"
      "\n"
      "app\tkey-app   requests_per_minute=60 tokens_per_minute=5000 # the app\r\n"
      // printf %s key-hashed | sha256sum
      "scraper sha256:" +
      to_hex(sha256("key-hashed")) + " scopes=metrics\n" + "  ops key-ops scopes=admin,metrics,inference");
  ApiKeys keys;
  keys.add_file(file.path(), {.requests_per_minute = 7});
  ASSERT_EQ(keys.keys().size(), 3U);
  const ApiKey& app = keys.authenticate(bearer("key-app"));
  EXPECT_EQ(app.name, "app");
  EXPECT_TRUE(app.scopes.has(Scope::inference));
  EXPECT_FALSE(app.scopes.has(Scope::metrics) || app.scopes.has(Scope::admin));
  EXPECT_EQ(app.limits.requests_per_minute, 60);
  EXPECT_EQ(app.limits.tokens_per_minute, 5000);
  const ApiKey& scraper = keys.authenticate(bearer("key-hashed"));
  EXPECT_EQ(scraper.scopes.bits, Scopes().with(Scope::metrics).bits);
  EXPECT_EQ(scraper.limits.requests_per_minute, 7);
  EXPECT_EQ(keys.authenticate(bearer("key-ops")).scopes.bits, kAllScopes.bits);
}

TEST(KeyFile, FaultsNameTheLineAndNeverTheKey) {
  const std::string good = "a key-a\n";
  const std::string bad[][2] = {
      {"name-alone\n", ":1: after the name comes a key"},
      {good + "b sha256:12\n", ":2: sha256: needs 64 hex digits, got 2"},
      {good + "\n# c\nb sha256:" + std::string(64, 'g') + "\n", ":4: sha256: needs hex digits"},
      {good + "b hidden-key scopes=root\n", ":2: a scope must be inference, metrics or admin, got \"root\""},
      {good + "b hidden-key scopes=\n", ":2: a scope must be"},
      {good + "b hidden-key scopes=metrics,\n", ":2: a scope must be"},
      {good + "b hidden-key scope=metrics\n", ":2: an option must be"},
      {good + "b hidden-key metrics\n", ":2: an option must be"},
      {good + "b hidden-key requests_per_minute=0\n", ":2: requests_per_minute must be 1-"},
      {good + "b hidden-key tokens_per_minute=-5\n", ":2: tokens_per_minute must be 1-"},
      {good + "b hidden-key tokens_per_minute=5k\n", ":2: tokens_per_minute must be 1-"},
      {good + "b hidden-key tokens_per_minute=99999999999999999999\n", ":2: tokens_per_minute must be"},
      {good + "a hidden-key\n", ":2: the key name \"a\" is there twice"},
      {good + "b key-a\n", ":2: \"a\" and \"b\" are the same key"},
      {good + "\xc3\xa9 hidden-key\n", ":2: a name must be"},
      {good + std::string(65, 'n') + " hidden-key\n", ":2: a name must be"},
      {good + "b hidden\x01key\n", ":2: after the name comes a key"},
      {"", " has no key"},
      {"# nothing\n\n", " has no key"},
  };
  for (const auto& [text, message] : bad) {
    EXPECT_THAT(fault_of(text), ::testing::StartsWith(message)) << text;
    EXPECT_THAT(fault_of(text), Not(HasSubstr("hidden")));
  }
  EXPECT_EQ(fault_of(good), "");
  ApiKeys keys;
  EXPECT_THROW(keys.add_file("/nowhere/keys"), Error);
}

TEST(KeyFile, HasAtMostSoManyKeys) {
  std::string text;
  for (int i = 0; i <= limits::kApiKeys; ++i) text += fmt::format("n{} k{}\n", i, i);
  EXPECT_THAT(fault_of(text), ::testing::StartsWith(":1001: at most 1000 API keys"));
}

TEST(FileWatch, SaysOnceThatAFileHasChangedAndComeToRest) {
  const KeyFile file("a key-a\n");
  FileWatch watch({file.path()});
  EXPECT_FALSE(watch.poll());
  file.write("b key-b\n");
  EXPECT_FALSE(watch.poll());  // it may still be being written
  EXPECT_TRUE(watch.poll());
  EXPECT_FALSE(watch.poll());
  std::filesystem::remove(file.path());
  EXPECT_FALSE(watch.poll());
  file.write("c key-c\n");  // gone for a moment only
  EXPECT_FALSE(watch.poll());
  EXPECT_TRUE(watch.poll());
  FileWatch none({});
  EXPECT_FALSE(none.poll());
}

}  // namespace
}  // namespace neutrino::net
