// cloud_test: the tests, and the programs that they start (programs.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "cloud/providers/keeper.h"
#include "cloud/providers/replica_folder.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud::testing {
namespace {

int run_keeper_program(int argc, char** argv) {
  return argc == 3 ? run_keeper(argv[1], std::atoll(argv[2])) : 2;
}

// A keeper as one might write it without the lock and without the rule that a generation runs once: the tests must catch it.
int run_careless_keeper(int argc, char** argv) {
  const ReplicaFolder folder(argc == 3 ? argv[1] : "");
  const auto spec = folder.spec();
  if (!spec) return 1;
  const ProcessIdentity replica = spawn(
      {.argv = {spec->command[0], spec->command[1], "0", spec->command[3]},
       .environment = std::vector{folder.mark(), fmt::format("NEUTRINO_GENERATION={}", spec->generation)},
       .parent_death_signal = SIGKILL});
  folder.write(StatusRecord{.generation = spec->generation, .phase = "exited", .reason = "Completed"});
  return wait_for(replica.pid).code;
}

constexpr struct {
  const char* name;
  int (*run)(int argc, char** argv);
} kPrograms[] = {
    {"keeper", run_keeper_program},
    {"careless-keeper", run_careless_keeper},
    {"replica", run_replica},
    {"controller", run_controller},
    {"supervisor", run_test_supervisor},
    {"supervised", run_supervised},
    {"usage-counter", run_usage_counter},
    {"metered-gateway", run_metered_gateway},
};

}  // namespace

std::filesystem::path test_binary() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::vector<std::string> program(const std::string& name) { return {test_binary().string(), name}; }

}  // namespace neutrino::cloud::testing

int main(int argc, char** argv) {
  namespace programs = neutrino::cloud::testing;
  std::signal(SIGPIPE, SIG_IGN);
  try {
    for (const auto& known : programs::kPrograms)
      if (argc > 1 && std::strcmp(argv[1], known.name) == 0) {
        neutrino::init_log("warn");
        return known.run(argc - 1, argv + 1);
      }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[1], error.what());
    return 1;
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
