// Sign-ins: kept for their owner alone, and never shown to another server.
#include "cli/contexts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "base/file.h"
#include "base/testing/temporary_folder.h"
#include "cli/cloud_client.h"

namespace neutrino::cli {
namespace {

constexpr const char* kHere = "http://127.0.0.1:8001";
constexpr const char* kThere = "https://cloud.test";

Contexts two() {
  return {.current = "here",
          .contexts = {{.name = "here", .server = kHere, .token = "t-here", .workspace = "w"},
                       {.name = "there", .server = kThere, .token = "t-there"}}};
}

std::string chosen(const ConnectionOptions& options, const Contexts& contexts = two()) {
  const Context context = choose_context(options, contexts);
  return fmt::format("{} {} {}", context.server, context.token, context.workspace);
}

class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

TEST(Contexts, flags_come_before_the_environment_and_that_before_what_was_kept) {
  const TemporaryFolder folder;
  const Variable home("NEUTRINO_HOME", folder.path().c_str());
  EXPECT_EQ(chosen({}), "http://127.0.0.1:8001 t-here w");
  EXPECT_EQ(chosen({}, {}), "http://127.0.0.1:8001  ");
  EXPECT_EQ(chosen({.context = "there"}), "https://cloud.test t-there ");
  EXPECT_EQ(chosen({.workspace = "v"}), "http://127.0.0.1:8001 t-here v");
  const Variable token("NEUTRINO_TOKEN", "t-env"), workspace("NEUTRINO_WORKSPACE", "w-env");
  EXPECT_EQ(chosen({}), "http://127.0.0.1:8001 t-env w-env");
  EXPECT_EQ(chosen({.token = "t-flag", .workspace = "v"}), "http://127.0.0.1:8001 t-flag v");
}

TEST(Contexts, a_cloud_of_this_machine_is_found_where_it_says_it_is) {
  const TemporaryFolder folder;
  const Variable home("NEUTRINO_HOME", folder.path().c_str());
  EXPECT_EQ(local_server(), "http://127.0.0.1:8001");
  std::filesystem::create_directories(folder.path() / "cloud");
  write_file_atomic(folder.path() / "cloud" / "addresses.json",
                    R"({"inference":"http://127.0.0.1:1","api":"http://127.0.0.1:7"})");
  EXPECT_EQ(chosen({}, {}), "http://127.0.0.1:7  ");
}

TEST(Contexts, a_token_goes_to_its_own_server_only) {
  EXPECT_EQ(chosen({.server = "https://cloud.test/"}), "https://cloud.test/ t-there ");
  EXPECT_EQ(chosen({.server = "https://other.test"}), "https://other.test  ");
  EXPECT_EQ(chosen({.server = "http://127.0.0.1:9"}), "http://127.0.0.1:9  ");
  EXPECT_EQ(chosen({.server = "https://other.test", .token = "t"}), "https://other.test t ");
  EXPECT_THROW(chosen({.server = "https://other.test", .context = "here"}), Error);
  EXPECT_THROW(chosen({.context = "nowhere"}), Error);
  const Variable server("NEUTRINO_SERVER", "https://other.test");
  EXPECT_EQ(chosen({}), "https://other.test  ");
}

TEST(Contexts, are_kept_for_their_owner_alone) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "cloud" / "contexts.json";
  EXPECT_TRUE(load_contexts(path).contexts.empty());
  Contexts contexts = two();
  contexts.put({.name = "here", .server = kHere, .token = "t-new"});
  EXPECT_TRUE(contexts.remove("there"));
  EXPECT_FALSE(contexts.remove("there"));
  save_contexts(contexts, path);
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(chosen({}, load_contexts(path)), "http://127.0.0.1:8001 t-new ");
  ::chmod(path.c_str(), 0640);
  EXPECT_THROW(load_contexts(path), Error);
}

TEST(ApiErrors, are_told_as_the_api_says_them) {
  const Error invalid = api_error(
      422,
      R"({"error":{"message":"must be 0 or more, got -1","param":"deployments[0].weight","code":"invalid_value"}})");
  EXPECT_EQ(invalid.message(), "deployments[0].weight: must be 0 or more, got -1");
  EXPECT_EQ(invalid.param(), "deployments[0].weight");
  EXPECT_EQ(error_exit_code(invalid.code()), 2);
  const Error named =
      api_error(422, R"({"error":{"message":"name must be a string","param":"name","code":null}})");
  EXPECT_EQ(named.message(), "name must be a string");
  EXPECT_EQ(api_error(401, R"({"error":{"message":"expired"}})").code(), ErrorCode::unauthenticated);
  EXPECT_THAT(api_error(502, "<html>").message(), ::testing::HasSubstr("502"));
  EXPECT_EQ(api_error(404, "{}").code(), ErrorCode::not_found);
  EXPECT_EQ(api_error(409, "{}").code(), ErrorCode::already_exists);
}

}  // namespace
}  // namespace neutrino::cli
