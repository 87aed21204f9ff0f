#include "cloud/balancer.h"

#include <algorithm>
#include <cstring>

namespace neutrino::cloud {
namespace {

constexpr double kMatchWeight = 2, kLoadWeight = 1, kCacheWeight = 1;
// Less of the prompt than this is not worth a detour (SGLang's cache_threshold).
constexpr double kMatchMin = 0.3;
// A replica with more requests than kGuardFactor times the mean, and kGuardRequests, gets no request for its prefixes' sake: a prefix
// that is hotter than one replica can serve spreads over as many as it needs (consistent hashing with bounded loads, in KubeAI's words).
constexpr double kGuardFactor = 1.25;
constexpr double kGuardRequests = 2;

constexpr int64_t kFailuresToEject = 3;
constexpr int64_t kEjectNs = 5'000'000'000;
constexpr int64_t kEjectDoublings = 4;  // up to 80 s

uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a ^ 0x9E3779B97F4A7C15) * (b ^ 0xC2B2AE3D27D4EB4F);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_bytes(uint64_t seed, std::string_view bytes) {
  uint64_t state = mix(seed, bytes.size());
  while (bytes.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    state = mix(state, word);
    bytes.remove_prefix(8);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, bytes.data(), bytes.size());
  return mix(state, rest);
}

int64_t index_capacity(const ReplicaRoute& route) {
  const int64_t known = route.cache_tokens / limits::kPrefixChunkTokens;
  return known > 0 ? std::min(known, limits::kPrefixIndexChunks) : limits::kPrefixIndexChunks / 16;
}

bool is_among(std::span<const std::shared_ptr<ReplicaLoad>> these, const std::shared_ptr<ReplicaLoad>& one) {
  return std::find(these.begin(), these.end(), one) != these.end();
}

}  // namespace

std::vector<uint64_t> prefix_hashes(std::string_view salt, std::string_view text) {
  constexpr auto kChunk = static_cast<size_t>(limits::kPrefixChunkBytes);
  const size_t chunks = std::min(text.size() / kChunk, static_cast<size_t>(limits::kPrefixChunks));
  std::vector<uint64_t> hashes(chunks);
  uint64_t before = hash_bytes(0, salt);
  for (size_t i = 0; i < chunks; ++i)
    hashes[i] = before = hash_bytes(before, text.substr(i * kChunk, kChunk));
  return hashes;
}

// ---- the index

int64_t PrefixIndex::match(std::span<const uint64_t> hashes) const {
  int64_t count = 0;
  for (const uint64_t hash : hashes) {
    if (!places_.contains(hash)) break;
    ++count;
  }
  return count;
}

// Backwards, so that a prompt's end goes out before its beginning, without which it is of no use.
void PrefixIndex::add(std::span<const uint64_t> hashes) {
  for (size_t i = hashes.size(); i-- > 0;) {
    const auto [place, is_new] = places_.try_emplace(hashes[i], order_.end());
    if (is_new)
      place->second = order_.insert(order_.begin(), hashes[i]);
    else
      order_.splice(order_.begin(), order_, place->second);
  }
  shrink();
}

void PrefixIndex::set_capacity(int64_t capacity) {
  capacity_ = capacity;
  shrink();
}

void PrefixIndex::shrink() {
  while (size() > capacity_) {
    places_.erase(order_.back());
    order_.pop_back();
  }
}

ReplicaLoad::ReplicaLoad(const ReplicaRoute& from) : route(from), prefixes(index_capacity(from)) {}

// ---- the endpoint's replicas

void Balancer::update(std::shared_ptr<const EndpointRoute> endpoint) {
  std::map<std::string, std::shared_ptr<ReplicaLoad>> kept;
  groups_.clear();
  for (const DeploymentRoute& deployment : endpoint->deployments) {
    Group group{std::shared_ptr<const DeploymentRoute>(endpoint, &deployment), {}};
    for (const ReplicaRoute& route : deployment.replicas) {
      const auto found = replicas_.find(route.id);
      const bool same = found != replicas_.end() && found->second->route.port == route.port &&
                        found->second->route.host == route.host;
      auto load = same ? found->second : std::make_shared<ReplicaLoad>(route);
      load->route = route;
      load->prefixes.set_capacity(index_capacity(route));
      kept[route.id] = load;
      group.replicas.push_back(std::move(load));
    }
    groups_.push_back(std::move(group));
  }
  replicas_ = std::move(kept);
  endpoint_ = std::move(endpoint);
}

// Without those that are put aside, unless these are all.
Balancer::Candidates Balancer::candidates(const Group& group, const PickRequest& request) const {
  Candidates good, aside;
  for (const auto& replica : group.replicas) {
    if (replica->route.draining || is_among(request.tried, replica)) continue;
    if (!request.replica.empty() && replica->route.id != request.replica) continue;
    (replica->ejected_until_ns > request.now_ns ? aside : good).push_back(replica);
  }
  return good.empty() ? aside : good;
}

// What sticks to a replica sticks to its deployment, too.
double Balancer::draw(const PickRequest& request) {
  if (endpoint_->policy != "sticky" || request.sticky.empty()) return random_.uniform();
  return static_cast<double>(hash_bytes(1, request.sticky) >> 11) * 0x1.0p-53;
}

// Deployments without a replica leave their share to the others.
std::optional<Pick> Balancer::pick(const PickRequest& request) {
  std::vector<std::pair<const Group*, Candidates>> groups;
  int64_t weights = 0;
  for (const Group& group : groups_) {
    if (group.deployment->weight <= 0) continue;
    Candidates found = candidates(group, request);
    if (found.empty()) continue;
    weights += group.deployment->weight;
    groups.emplace_back(&group, std::move(found));
  }
  if (groups.empty()) return std::nullopt;
  double at = groups.size() > 1 ? draw(request) * static_cast<double>(weights) : 0;
  size_t chosen = 0;
  while (chosen + 1 < groups.size()) {
    at -= static_cast<double>(groups[chosen].first->deployment->weight);
    if (at < 0) break;
    ++chosen;
  }
  return Pick{groups[chosen].first->deployment, choose(groups[chosen].second, request)};
}

std::optional<Pick> Balancer::pick_shadow(const PickRequest& request) {
  for (const Group& group : groups_) {
    if (group.deployment->shadow_percent <= 0) continue;
    if (random_.uniform() * 100 >= static_cast<double>(group.deployment->shadow_percent)) continue;
    const Candidates found = candidates(group, request);
    if (!found.empty()) return Pick{group.deployment, least_loaded(found)};
  }
  return std::nullopt;
}

std::shared_ptr<ReplicaLoad> Balancer::choose(const Candidates& from, const PickRequest& request) {
  const std::string& policy = endpoint_->policy;
  if (policy == "prefix") return by_prefix(from, request);
  if (policy == "round_robin") return from[turn_++ % from.size()];
  if (policy == "sticky" &&
      !request.sticky.empty()) {  // rendezvous: a replica that comes or goes moves only its own share
    const uint64_t sticky = hash_bytes(2, request.sticky);
    return *std::max_element(from.begin(), from.end(), [&](const auto& a, const auto& b) {
      return hash_bytes(sticky, a->route.id) < hash_bytes(sticky, b->route.id);
    });
  }
  return least_loaded(from);
}

std::shared_ptr<ReplicaLoad> Balancer::least_loaded(const Candidates& from) {
  if (from.size() == 1) return from[0];
  const auto count = static_cast<int64_t>(from.size());
  const int64_t first = random_.below(count);
  const int64_t second = (first + 1 + random_.below(count - 1)) % count;
  const auto& a = from[static_cast<size_t>(first)];
  const auto& b = from[static_cast<size_t>(second)];
  return b->tokens < a->tokens ? b : a;
}

std::shared_ptr<ReplicaLoad> Balancer::by_prefix(const Candidates& from, const PickRequest& request) {
  if (request.prefix.empty()) return least_loaded(from);
  int64_t sum = 0;
  for (const auto& replica : from) sum += replica->requests;
  const double mean = static_cast<double>(sum) / static_cast<double>(from.size());
  const double most = kGuardFactor * mean + kGuardRequests;
  const auto chunks = static_cast<double>(request.prefix.size());
  std::shared_ptr<ReplicaLoad> best;
  double best_score = 0, best_match = 0;
  for (const auto& replica : from) {
    if (static_cast<double>(replica->requests) > most) continue;
    const double match = static_cast<double>(replica->prefixes.match(request.prefix)) / chunks;
    const double cache =
        replica->route.cache_tokens > 0
            ? static_cast<double>(replica->tokens) / static_cast<double>(replica->route.cache_tokens)
            : 0;
    const double score = kMatchWeight * match -
                         kLoadWeight * static_cast<double>(replica->requests) / std::max(1.0, mean) -
                         kCacheWeight * std::min(cache, 1.0);
    if (!best || score > best_score || (score == best_score && match > best_match)) {
      best = replica;
      best_score = score;
      best_match = match;
    }
  }
  return best_match < kMatchMin ? least_loaded(from) : best;
}

void Balancer::started(const Pick& pick, int64_t tokens, std::span<const uint64_t> prefix) {
  ++pick.replica->requests;
  pick.replica->tokens += tokens;
  if (!prefix.empty()) pick.replica->prefixes.add(prefix);
}

void Balancer::finished(const Pick& pick, int64_t tokens) {
  --pick.replica->requests;
  pick.replica->tokens -= tokens;
}

void Balancer::outcome(const Pick& pick, bool good, int64_t now_ns) {
  ReplicaLoad& replica = *pick.replica;
  if (good) {
    replica.failures = replica.ejections = 0;
    replica.ejected_until_ns = 0;
    return;
  }
  if (++replica.failures < kFailuresToEject) return;
  const auto aside = std::count_if(replicas_.begin(), replicas_.end(), [&](const auto& entry) {
    return entry.second->ejected_until_ns > now_ns;
  });
  if (2 * (aside + 1) > static_cast<int64_t>(replicas_.size()) + 1) return;
  replica.failures = 0;
  replica.ejected_until_ns = now_ns + (kEjectNs << std::min(replica.ejections++, kEjectDoublings));
}

bool Balancer::has_replica(int64_t now_ns) const {
  const PickRequest any{.now_ns = now_ns};
  return std::any_of(groups_.begin(), groups_.end(), [&](const Group& group) {
    return group.deployment->weight > 0 && !candidates(group, any).empty();
  });
}

}  // namespace neutrino::cloud
