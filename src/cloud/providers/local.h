// The provider of this machine: replicas are child processes, each with a keeper of its own.
//
// All state is in the folder, one subfolder a replica, so that another process takes over where this one was killed: it reads the
// folder and finds everything that runs. Two at once on one folder do no harm either.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cloud/provider.h"
#include "cloud/providers/replica_folder.h"

namespace neutrino::cloud {

class LocalProvider final : public Provider {
 public:
  // Makes `options.folder` if need be. Throws Error for a folder that cannot be used.
  explicit LocalProvider(ProviderOptions options);
  std::string_view name() const override { return "local"; }

  void start(const ReplicaSpec& spec) override;
  void stop(const std::string& id, int64_t generation, milliseconds grace) override;
  void remove(const std::string& id) override;
  std::vector<ObservedReplica> observe() override;
  std::vector<NodeFacts> nodes() override;
  LogChunk read_log(const std::string& id, int64_t cursor, int64_t bytes_max) override;

 private:
  ReplicaFolder folder_of(const std::string& id) const;
  void start_keeper(const ReplicaFolder& folder, const ReplicaSpec& spec);
  std::optional<ObservedReplica> observe_one(const std::string& id);
  void end_lost(const ReplicaFolder& folder);
  void reap_keepers();

  ProviderOptions options_;
  std::set<pid_t> keepers_;  // that this process started and has not reaped
};

std::unique_ptr<Provider> make_local_provider(ProviderOptions options);

// The part of this process's environment that replicas may see: where programs, homes and models are, the language; no keys.
std::vector<std::string> harmless_environment();

}  // namespace neutrino::cloud
