// Who uses the cloud: workspaces, their members, API keys, secrets and sign-ins. Rows, and what the API shows of them.
//
// A workspace is a tenant: everything else belongs to exactly one, and nobody of another learns even that it exists. A member is a
// person in one workspace. An API key is what a program calls with; a session is what a member has after signing in.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/fields.h"
#include "cloud/route_table.h"

namespace neutrino::cloud {

struct Workspace {
  std::string id;
  std::string name;  // unique
  int64_t created_ms = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    using W = Workspace;
    return std::tuple(field("id", &W::id, {.key = true, .read_only = true}),
                      field("name", &W::name, {.help = "unique; lower-case letters, digits, '.', '_', '-'"}),
                      field("created_ms", &W::created_ms, {.read_only = true}),
                      field("etag", &W::etag, {.read_only = true}));
  }
};

// viewer: reads. user: also endpoints, secrets and keys of its own. admin: also members, everybody's keys, budgets and the audit log.
enum class Role : uint8_t { viewer, user, admin };
constexpr std::array<std::string_view, 3> enum_names(Role) { return {"viewer", "user", "admin"}; }

struct Member {
  std::string id;
  std::string workspace;
  std::string email;  // unique in the workspace
  Role role = Role::viewer;
  bool platform =
      false;  // may also manage workspaces, nodes, shapes and prices: what belongs to no workspace
  int64_t created_ms = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    using M = Member;
    return std::tuple(
        field("id", &M::id, {.key = true, .read_only = true}),
        field("workspace", &M::workspace, {.read_only = true}),
        field("email", &M::email, {.immutable = true, .help = "unique in the workspace"}),
        field("role", &M::role),
        field("platform", &M::platform, {.help = "may manage workspaces, nodes, shapes and prices"}),
        field("created_ms", &M::created_ms, {.read_only = true}),
        field("etag", &M::etag, {.read_only = true}));
  }
};

// What a key may do: call endpoints, or use this API with a role. One does not imply the other.
struct KeyRow {
  std::string id;
  std::string workspace;
  std::string name;    // unique in the workspace
  std::string member;  // whose it is: an id; empty: the workspace's own
  std::string prefix;  // the key's first characters, to tell keys apart
  std::string digest;  // SHA-256 of the whole, 64 hex digits
  bool inference = true;
  std::string api_role;  // a Role's name; empty: no use of the API. Never more than its member's
  bool platform = false;
  std::vector<std::string> models;  // names of endpoints that it may call; empty: all of its workspace
  UseLimits limits;                 // its `addresses` hold for the API too
  int64_t expires_ms = 0;           // Unix time; 0: never
  int64_t revoked_ms = 0;           // 0: it is good
  int64_t created_ms = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    using K = KeyRow;
    return std::tuple(
        field("id", &K::id, {.key = true, .read_only = true}),
        field("workspace", &K::workspace, {.read_only = true}), field("name", &K::name),
        field("member", &K::member, {.immutable = true, .help = "a member's id; empty: the workspace's own"}),
        field("prefix", &K::prefix, {.read_only = true}),
        field("digest", &K::digest, {.secret = true, .read_only = true}),
        field("inference", &K::inference, {.help = "may call endpoints"}),
        field("api_role", &K::api_role, {.help = "viewer, user or admin: may use this API so; empty: not"}),
        field("platform", &K::platform),
        field("models", &K::models, {.help = "endpoints it may call; empty: all"}),
        field("limits", &K::limits), field("expires_ms", &K::expires_ms, {.help = "Unix time; 0: never"}),
        field("revoked_ms", &K::revoked_ms, {.read_only = true}),
        field("created_ms", &K::created_ms, {.read_only = true}),
        field("etag", &K::etag, {.read_only = true}));
  }
};

// A value that deployments may have in their environment, and that nobody gets to see again.
struct Secret {
  std::string id;
  std::string workspace;
  std::string name;    // unique in the workspace
  std::string sealed;  // by secret_box.h
  int64_t created_ms = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    using S = Secret;
    return std::tuple(field("id", &S::id, {.key = true, .read_only = true}),
                      field("workspace", &S::workspace, {.read_only = true}),
                      field("name", &S::name, {.immutable = true}),
                      field("sealed", &S::sealed, {.secret = true, .read_only = true}),
                      field("created_ms", &S::created_ms, {.read_only = true}),
                      field("etag", &S::etag, {.read_only = true}));
  }
};

// After a sign-in. Its token is kept as a digest only, as a key is.
struct Session {
  std::string digest;  // SHA-256 of the token, 64 hex digits
  std::string email;   // whose members, in all workspaces, it stands for
  std::string how;     // "one_time_key", or the issuer
  int64_t expires_ms = 0;
  int64_t created_ms = 0;
  static constexpr auto fields() {
    using S = Session;
    return std::tuple(field("digest", &S::digest, {.key = true, .secret = true}), field("email", &S::email),
                      field("how", &S::how), field("expires_ms", &S::expires_ms),
                      field("created_ms", &S::created_ms));
  }
};

// Good for one sign-in, which erases it: the first admin's, or what a browser hands to a terminal.
struct OneTimeKey {
  std::string digest;  // SHA-256, 64 hex digits
  std::string email;   // who signs in with it
  std::string how;     // of the session
  int64_t expires_ms = 0;
  static constexpr auto fields() {
    using K = OneTimeKey;
    return std::tuple(field("digest", &K::digest, {.key = true, .secret = true}), field("email", &K::email),
                      field("how", &K::how), field("expires_ms", &K::expires_ms));
  }
};

}  // namespace neutrino::cloud
