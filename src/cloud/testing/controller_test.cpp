// `controller FOLDER KEEPER`: makes what runs as FOLDER/desired says ("id generation" lines), as the reconciler will, until it is killed.
#include <chrono>
#include <map>
#include <sstream>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "cloud/providers/local.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud::testing {
namespace {

namespace fs = std::filesystem;

std::map<std::string, int64_t> read_desired(const fs::path& file) {
  std::istringstream lines(read_file(file, 1 << 20));
  std::map<std::string, int64_t> desired;
  std::string id;
  int64_t generation = 0;
  while (lines >> id >> generation) desired[id] = generation;
  return desired;
}

void tick(Provider& provider, const fs::path& folder) {
  std::map<std::string, int64_t> desired = read_desired(folder / "desired");
  for (const ObservedReplica& replica : provider.observe()) {
    const auto wanted = desired.find(replica.id);
    if (wanted == desired.end() || wanted->second != replica.generation) {
      provider.stop(replica.id, replica.generation, milliseconds(0));
      if (replica.phase == ReplicaPhase::exited && wanted == desired.end()) provider.remove(replica.id);
      if (replica.phase != ReplicaPhase::exited && wanted != desired.end()) desired.erase(wanted);
    } else if (replica.phase != ReplicaPhase::accepted) {
      desired.erase(wanted);
    }
  }
  for (const auto& [id, generation] : desired) {
    ReplicaSpec spec{.id = id, .generation = generation, .command = program("replica")};
    spec.command.insert(spec.command.end(), {"{port}", (folder / "journal").string()});
    provider.start(spec);
  }
}

}  // namespace

int run_controller(int argc, char** argv) {
  if (argc != 3) return 2;
  const fs::path folder = argv[1];
  LocalProvider provider({.folder = folder / "replicas",
                          .keeper_command = program(argv[2]),
                          .environment = harmless_environment()});
  for (;;) {
    try {
      tick(provider, folder);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unavailable && error.code() != ErrorCode::failed_precondition) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace neutrino::cloud::testing
