// Databases for tests: a temporary folder for SQLite, a schema of the shared server for PostgreSQL. A test that is
// parametrised with Engine runs on both.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/testing/temporary_folder.h"
#include "store/database.h"
#include "store/testing/postgres_server.h"

namespace neutrino::store::testing {

using neutrino::TemporaryFolder;

// The Error that `work` ends with; one with the code cancelled if there is none.
inline Error error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::cancelled, "no error");
}

enum class Engine { sqlite, postgres };

inline std::string engine_name(const ::testing::TestParamInfo<Engine>& info) {
  return info.param == Engine::sqlite ? "sqlite" : "postgres";
}

class TestDatabases {
 public:
  std::string new_url(Engine engine) {
    static std::atomic<int> number{0};
    if (engine == Engine::sqlite) return (folder_.path() / fmt::format("{}.db", ++number)).string();
    return PostgresServer::shared().url(fmt::format("test_{}", ++number));
  }
  const std::filesystem::path& folder() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

// A test on both engines: TEST_P of a class derived from this.
class OnBothEngines : public ::testing::TestWithParam<Engine> {
 protected:
  std::string new_url() { return databases_.new_url(GetParam()); }
  const std::filesystem::path& folder() const { return databases_.folder(); }

 private:
  TestDatabases databases_;
};

inline bool long_run() {
  const char* value = std::getenv("NEUTRINO_TEST_LONG");
  return value != nullptr && *value != '\0' && std::string_view(value) != "0";
}

}  // namespace neutrino::store::testing

#define NEUTRINO_ON_BOTH_ENGINES(suite)                                                     \
  INSTANTIATE_TEST_SUITE_P(Store, suite,                                                    \
                           ::testing::Values(::neutrino::store::testing::Engine::sqlite,    \
                                             ::neutrino::store::testing::Engine::postgres), \
                           ::neutrino::store::testing::engine_name)
