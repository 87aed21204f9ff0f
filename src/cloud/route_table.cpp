#include "cloud/route_table.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/error.h"

namespace neutrino::cloud {
namespace {

constexpr std::array<std::string_view, 5> kPolicies = {"least_loaded", "prefix", "sticky", "header",
                                                       "round_robin"};

// All addresses as 16 bytes, IPv4 ones as ::ffff:a.b.c.d.
std::optional<std::array<uint8_t, 16>> address_bytes(std::string_view text) {
  const std::string copy(text);
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, copy.c_str(), bytes.data()) == 1) return bytes;
  bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (inet_pton(AF_INET, copy.c_str(), bytes.data() + 12) == 1) return bytes;
  return std::nullopt;
}

struct Range {
  std::array<uint8_t, 16> bytes{};
  int bits = 128;
};

std::optional<Range> parse_range(std::string_view text) {
  const size_t slash = text.find('/');
  const auto bytes = address_bytes(text.substr(0, slash));
  if (!bytes) return std::nullopt;
  Range range{*bytes, 128};
  if (slash == std::string_view::npos) return range;
  const bool is_v4 = text.substr(0, slash).find(':') == std::string_view::npos;
  const std::string_view digits = text.substr(slash + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), range.bits);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (range.bits < 0 || range.bits > (is_v4 ? 32 : 128)) return std::nullopt;
  if (is_v4) range.bits += 96;
  return range;
}

bool in_range(const Range& range, const std::array<uint8_t, 16>& address) {
  const auto whole = static_cast<size_t>(range.bits / 8);
  if (std::memcmp(range.bytes.data(), address.data(), whole) != 0) return false;
  const int rest = range.bits % 8;
  if (rest == 0) return true;
  const int mask = 0xff << (8 - rest);
  return (range.bytes[whole] & mask) == (address[whole] & mask);
}

void check_addresses(const UseLimits& limits, std::string_view owner) {
  for (const std::string& text : limits.addresses)
    if (!is_address_range(text))
      throw make_error(ErrorCode::invalid_argument, "{}: an address must be as 10.0.0.0/8 or ::1, got \"{}\"",
                       owner, text);
}

Sha256Digest parse_digest(const KeyRoute& key) {
  Sha256Digest digest{};
  bool good = key.digest.size() == 2 * digest.size();
  for (size_t i = 0; good && i < digest.size(); ++i) {
    const char* at = key.digest.data() + 2 * i;
    const auto [end, error] = std::from_chars(at, at + 2, digest[i], 16);
    good = error == std::errc() && end == at + 2;
  }
  if (!good) throw make_error(ErrorCode::invalid_argument, "key {}: digest must be 64 hex digits", key.id);
  return digest;
}

}  // namespace

bool is_address_range(std::string_view text) { return parse_range(text).has_value(); }

bool address_allowed(const std::vector<std::string>& ranges, std::string_view address) {
  if (ranges.empty()) return true;
  const auto bytes = address_bytes(address);
  if (!bytes) return false;
  return std::any_of(ranges.begin(), ranges.end(), [&](const std::string& text) {
    const auto range = parse_range(text);
    return range && in_range(*range, *bytes);
  });
}

RouteIndex::RouteIndex(RouteTable table) : table_(std::move(table)) {
  for (const KeyRoute& key : table_.keys) {
    check_addresses(key.limits, key.id);
    if (!keys_.emplace(parse_digest(key), &key).second)
      throw make_error(ErrorCode::invalid_argument, "key {} has the digest of another key", key.id);
  }
  for (const EndpointRoute& endpoint : table_.endpoints) {
    if (std::find(kPolicies.begin(), kPolicies.end(), endpoint.policy) == kPolicies.end())
      throw make_error(
          ErrorCode::invalid_argument,
          "endpoint {}: policy must be least_loaded, prefix, sticky, header or round_robin, got \"{}\"",
          endpoint.name, endpoint.policy);
    check_addresses(endpoint.limits, endpoint.name);
    const auto add = [&](const std::string& name, bool is_adapter) {
      if (!models_
               .emplace(std::pair(std::string_view(endpoint.workspace), std::string_view(name)),
                        Model{&endpoint, is_adapter})
               .second)
        throw make_error(ErrorCode::invalid_argument, "two endpoints of workspace {} have the name \"{}\"",
                         endpoint.workspace, name);
    };
    add(endpoint.name, false);
    for (const std::string& name : endpoint.aliases) add(name, false);
    for (const std::string& name : endpoint.adapters) add(name, true);
  }
}

size_t RouteIndex::DigestHash::operator()(const Sha256Digest& digest) const {
  size_t part = 0;
  std::memcpy(&part, digest.data(), sizeof part);
  return part;
}

const KeyRoute* RouteIndex::key(const Sha256Digest& digest) const {
  const auto found = keys_.find(digest);
  return found == keys_.end() ? nullptr : found->second;
}

RouteIndex::Model RouteIndex::model(std::string_view workspace, std::string_view name) const {
  const auto found = models_.find({workspace, name});
  return found == models_.end() ? Model{} : found->second;
}

std::vector<std::string_view> RouteIndex::models(const KeyRoute& key) const {
  std::vector<std::string_view> names;
  for (auto at = models_.lower_bound({key.workspace, std::string_view()});
       at != models_.end() && at->first.first == key.workspace; ++at)
    if (may_call(key, *at->second.endpoint, at->first.second)) names.push_back(at->first.second);
  return names;
}

// By the name that was called, or by the endpoint's own, which stands for all of its names.
bool may_call(const KeyRoute& key, const EndpointRoute& endpoint, std::string_view name) {
  if (key.workspace != endpoint.workspace) return false;
  return key.models.empty() ||
         std::any_of(key.models.begin(), key.models.end(),
                     [&](const std::string& model) { return model == name || model == endpoint.name; });
}

}  // namespace neutrino::cloud
