#include "cloud/rollout.h"

#include <algorithm>

namespace neutrino::cloud {
namespace {

using Replicas = std::vector<const Replica*>;

bool can_serve(const Replica& replica) { return replica.state == ReplicaState::ready; }

// It is left alone: whether it serves is not known.
bool is_unknown(const Replica& replica) { return replica.state == ReplicaState::unknown; }

struct Sorted {
  Replicas fresh;    // of the wanted revision
  Replicas old;      // of others
  Replicas leaving;  // of the wanted revision, drained but not gone
  int64_t old_leaving = 0;
};

// While a rollout is paused every revision is as good as another.
Sorted sort(const Deployment& deployment, const Replicas& replicas) {
  Sorted sorted;
  for (const Replica* replica : replicas) {
    const bool fresh = replica->revision == deployment.revision || deployment.rollout.paused;
    if (replica->goal == ReplicaGoal::run)
      (fresh ? sorted.fresh : sorted.old).push_back(replica);
    else if (fresh)
      sorted.leaving.push_back(replica);
    else
      ++sorted.old_leaving;
  }
  return sorted;
}

// The revision of which replicas are made: while a rollout is paused the one that is there.
int64_t revision_to_make(const Deployment& deployment, const Replicas& replicas) {
  int64_t newest = 0;
  for (const Replica* replica : replicas)
    if (replica->goal == ReplicaGoal::run) newest = std::max(newest, replica->revision);
  return deployment.rollout.paused && newest > 0 ? newest : deployment.revision;
}

// Those that serve least first: not ready ones, then by load, then the youngest.
void least_useful_first(Replicas& replicas, const std::function<double(const Replica&)>& load) {
  std::ranges::stable_sort(replicas, [&](const Replica* a, const Replica* b) {
    const auto rank = [&](const Replica& r) {
      return std::tuple(can_serve(r), load(r), -r.created_ms, r.id);
    };
    return rank(*a) < rank(*b);
  });
}

// Drains up to `count` of them; those that can serve only while `spare` lasts.
void drain(Replicas replicas, int64_t count, int64_t& spare,
           const std::function<double(const Replica&)>& load, Moves& moves) {
  std::erase_if(replicas, [](const Replica* replica) { return is_unknown(*replica); });
  least_useful_first(replicas, load);
  for (const Replica* replica : replicas) {
    if (count == 0 || (can_serve(*replica) && spare <= 0)) return;
    moves.drain.push_back(replica);
    --count;
    if (can_serve(*replica)) --spare;
  }
}

}  // namespace

Moves next_moves(const Deployment& deployment, const Replicas& replicas,
                 const std::function<double(const Replica&)>& load) {
  const int64_t wanted = deployment.replicas;
  const Sorted sorted = sort(deployment, replicas);
  const int64_t fresh = std::ssize(sorted.fresh), old = std::ssize(sorted.old);
  Moves moves{.revision = revision_to_make(deployment, replicas)};

  int64_t missing = std::max<int64_t>(0, wanted - fresh);
  for (const Replica* replica : sorted.leaving)
    if (missing > 0 && replica->goal == ReplicaGoal::drain && can_serve(*replica)) {
      moves.take_back.push_back(replica);
      --missing;
    }
  const bool rolling = old + sorted.old_leaving > 0;
  const int64_t room =
      wanted + deployment.rollout.surge_max - fresh - old - sorted.old_leaving - std::ssize(moves.take_back);
  moves.make = rolling ? std::clamp<int64_t>(room, 0, missing) : missing;

  const int64_t serving =
      std::ranges::count_if(sorted.fresh, [](const Replica* r) { return can_serve(*r); }) +
      std::ranges::count_if(sorted.old, [](const Replica* r) { return can_serve(*r); });
  int64_t spare = serving - std::max<int64_t>(0, wanted - deployment.rollout.unavailable_max);
  drain(sorted.old, old, spare, load, moves);
  // Scaling in: nothing keeps what is beyond the wanted number, but that the old ones go first.
  const int64_t going = std::ranges::count_if(moves.drain, [](const Replica* r) { return can_serve(*r); });
  int64_t beyond = serving - going - wanted;
  drain(sorted.fresh, std::max<int64_t>(0, fresh - wanted), beyond, load, moves);
  return moves;
}

}  // namespace neutrino::cloud
