// Where replicas run: the small face of this machine, and of Slurm or Kubernetes in their turn.
//
// A provider keeps no wishes of its own. It starts what it is told to start, at most once a (replica, generation), and says what
// really runs; what should run is the reconciler's. Every call may be repeated, and a call that came late changes nothing: a
// caller that died between any two lines simply calls again. Readiness is not seen here: that is a probe's (cloud/probes.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::cloud {

using std::chrono::milliseconds;

// In a command: the neutrino binary of the node that runs it. A stored command says this and no path, since binaries move.
inline constexpr std::string_view kOwnProgram = "{neutrino}";

struct ReplicaSpec {
  std::string id;          // lower-case letters, digits, dashes; at most 63; never used again for another
  int64_t generation = 1;  // which attempt of this replica; a restart is the next one
  std::vector<std::string> command;      // "{host}" and "{port}" become where it listens; kOwnProgram
  std::vector<std::string> environment;  // "NAME=value" beside the provider's own; not stored in the clear
  std::string working_directory;         // empty: the provider's choice
  int64_t memory_bytes = 0;              // it gets no more; 0: no limit
  double cores = 0;                      // likewise, of processor time
  int64_t stop_grace_ms = 30'000;        // if a signal from elsewhere asks it to end
  std::string node;                      // where placement wants it; empty: any
};

enum class ReplicaPhase {
  accepted,  // known, not begun: whoever wants it calls start() once more
  starting,  // being set up: no process yet
  running,   // its process runs; whether it can serve, a probe tells
  stopping,  // told to end, or ended by itself and not yet cleared away
  exited,    // over, and never begun again with this generation
  unknown,   // its node does not answer: nothing is known, so nothing should be done
};
std::string_view phase_name(ReplicaPhase phase);

// Why something is as it is, in the words of Lepton's API where it has them. Kept by name in rows and events: names stay.
enum class Reason {
  ready,
  in_progress,    // on its way
  no_capacity,    // no node has room; the message says by how much
  config_error,   // as described it cannot run: no such program, bad flags
  system_error,   // the machine's fault or ours
  out_of_memory,  // took more than its limit
  crashed,        // ended by itself with an error
  completed,      // ended by itself without one
  stopped,        // ended because it was told to
  startup_timeout,
  not_ready,  // runs, but says that it takes no requests now
  liveness_failed,
  back_off,  // is started again later, for it failed several times
  unknown,
};
std::string_view reason_name(Reason reason);          // "NoCapacity"
std::optional<Reason> find_reason(std::string_view);  // by name

struct ObservedReplica {
  std::string id;
  int64_t generation = 0;
  ReplicaPhase phase = ReplicaPhase::accepted;
  Reason reason = Reason::in_progress;
  std::string message;  // for people: what happened, with figures
  std::string node;
  std::string host;  // where it listens, once it has begun
  int port = 0;
  int64_t started_at_ms = 0;           // Unix time; 0: not begun
  int64_t finished_at_ms = 0;          // 0: not over
  std::optional<int64_t> exit_code;    // of a program that ended by itself
  std::optional<int64_t> exit_signal;  // that ended it
  std::string limits_note;             // empty: its limits hold; else which do not and why
};

enum class NodePhase { ready, missing };

struct NodeFacts {
  std::string name;
  std::string provider;
  NodePhase phase = NodePhase::ready;
  double cores = 0;                    // that replicas may use together
  int64_t memory_bytes = 0;            // likewise, if nothing else ran
  int64_t memory_available_bytes = 0;  // now
  std::string kernel_table;            // "amx"; empty: not measured
  double memory_bytes_per_second = 0;  // read from memory by all cores; 0: not measured
};

struct LogChunk {
  std::string text;
  int64_t next = 0;        // cursor of what follows
  int64_t lost_bytes = 0;  // between the cursor asked for and the text: rotated away
};

inline constexpr int64_t kAnyGeneration = std::numeric_limits<int64_t>::max();

// Calls block, for milliseconds here and for a round trip elsewhere; they belong to one thread.
// All throw Error{invalid_argument} for an id that cannot be one, and Error{unavailable} if the provider does not answer.
class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string_view name() const = 0;

  // Nothing happens if this generation, or a later one, was started before, or if it was stopped before it began. Throws
  // Error{failed_precondition} while an earlier generation runs: stop it first. Errors of the replica itself come out of
  // observe(), so a start() that returned has not said that it runs.
  virtual void start(const ReplicaSpec& spec) = 0;
  // This generation and earlier ones: its whole group gets SIGTERM, and SIGKILL after `grace`. Returns at once; the end comes out
  // of observe(). Once more with a shorter grace shortens it. Nothing happens for what is not there or is over, nor to a later
  // generation: a call that came late ends nobody else.
  virtual void stop(const std::string& id, int64_t generation, milliseconds grace) = 0;
  // Forgets a replica that is over or has not begun, and its logs. Throws Error{failed_precondition} while it runs.
  virtual void remove(const std::string& id) = 0;

  virtual std::vector<ObservedReplica> observe() = 0;  // all that there are, ordered by id
  virtual std::vector<NodeFacts> nodes() = 0;

  // What a replica wrote, over all generations, from a cursor: a position in bytes, 0 is the beginning; a negative one counts
  // from the end. Returns at once, with an empty text at the end: to follow, ask again with `next`. Throws Error{not_found}.
  virtual LogChunk read_log(const std::string& id, int64_t cursor, int64_t bytes_max) = 0;
};

struct ProviderOptions {
  std::filesystem::path folder;             // for what it has to keep; one provider each
  std::vector<std::string> keeper_command;  // local: how to run run_keeper(), without its arguments
  std::vector<std::string> environment;     // that every replica gets
  std::string node_name = "local";
  std::string kernel_table;  // facts about this machine that the caller knows
  double memory_bytes_per_second = 0;
  int64_t log_file_bytes = 16 << 20;  // a log file is rotated at this size
  int64_t log_files = 4;              // and so many are kept of a replica
};

struct ProviderEntry {
  std::string_view name;
  std::string_view summary;
  std::unique_ptr<Provider> (*make)(ProviderOptions options);
};
const std::vector<ProviderEntry>& providers();  // the table in providers.cpp
// Throws Error{invalid_argument} that lists the table for another name.
std::unique_ptr<Provider> make_provider(std::string_view name, ProviderOptions options);

void check_replica_id(std::string_view id);  // throws Error{invalid_argument}

}  // namespace neutrino::cloud
