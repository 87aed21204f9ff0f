// The table of providers: a new one is a file in providers/ and a line here.
#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "cloud/provider.h"
#include "cloud/providers/local.h"

namespace neutrino::cloud {
namespace {

constexpr std::pair<ReplicaPhase, std::string_view> kPhases[] = {
    {ReplicaPhase::accepted, "accepted"}, {ReplicaPhase::starting, "starting"},
    {ReplicaPhase::running, "running"},   {ReplicaPhase::stopping, "stopping"},
    {ReplicaPhase::exited, "exited"},     {ReplicaPhase::unknown, "unknown"},
};

constexpr std::pair<Reason, std::string_view> kReasons[] = {
    {Reason::ready, "Ready"},
    {Reason::in_progress, "InProgress"},
    {Reason::no_capacity, "NoCapacity"},
    {Reason::config_error, "ConfigError"},
    {Reason::system_error, "SystemError"},
    {Reason::out_of_memory, "OutOfMemory"},
    {Reason::crashed, "Crashed"},
    {Reason::completed, "Completed"},
    {Reason::stopped, "Stopped"},
    {Reason::startup_timeout, "StartupTimeout"},
    {Reason::not_ready, "NotReady"},
    {Reason::liveness_failed, "LivenessFailed"},
    {Reason::back_off, "BackOff"},
    {Reason::unknown, "Unknown"},
};

}  // namespace

const std::vector<ProviderEntry>& providers() {
  static const std::vector<ProviderEntry> table = {
      {"local", "child processes on this machine", make_local_provider},
  };
  return table;
}

std::unique_ptr<Provider> make_provider(std::string_view name, ProviderOptions options) {
  std::string known;
  for (const ProviderEntry& entry : providers()) {
    if (entry.name == name) return entry.make(std::move(options));
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  throw make_error(ErrorCode::invalid_argument, "the provider must be one of: {}; got \"{}\"", known, name);
}

std::string_view phase_name(ReplicaPhase phase) {
  for (const auto& [value, name] : kPhases)
    if (value == phase) return name;
  check(false, "every phase has a name");
  return {};
}

std::string_view reason_name(Reason reason) {
  for (const auto& [value, name] : kReasons)
    if (value == reason) return name;
  check(false, "every reason has a name");
  return {};
}

std::optional<Reason> find_reason(std::string_view name) {
  for (const auto& [value, known] : kReasons)
    if (known == name) return value;
  return std::nullopt;
}

void check_replica_id(std::string_view id) {
  const bool good =
      !id.empty() && id.size() <= 63 && id.front() != '-' && std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
      });
  if (!good)
    throw make_error(ErrorCode::invalid_argument,
                     "a replica's id must be 1-63 of a-z, 0-9 and \"-\", not first, got \"{:.80}\"", id);
}

}  // namespace neutrino::cloud
