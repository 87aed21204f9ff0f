// Who calls the API: an API key or a session, told from a request's token, and what that one may do now.
//
// Rights are looked up at each call, not written into tokens: who is demoted or removed has lost them with the next call.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cloud/api/api.h"

namespace neutrino::cloud {

// The caller of a request that carries `Authorization: Bearer TOKEN` or `x-api-key`. `peer_address`: its IP address.
//   Error{unauthenticated}, 401, reason missing_key, malformed_key, unknown_key, revoked_key, expired_key, unknown_session,
//     expired_session;
//   Error{permission_denied}, 403, reason address_not_allowed, insufficient_scope (a key that is not for the API);
//   Error{not_found}, 404, for an X-Workspace that the caller is no member of.
// A session whose person is a member nowhere is a Caller with an empty workspace: allows() lets it do nothing but what needs nothing.
Caller find_caller(const net::Request& request, store::Transaction& transaction, const Tables& tables,
                   int64_t now_ms, std::string_view peer_address);

bool allows(const Caller& caller, Needs needs);

// Members with this email, in all workspaces, the oldest first.
std::vector<Member> members_of(store::Transaction& transaction, const Tables& tables, std::string_view email);

// As emails are kept and compared: in lower case.
std::string lower_email(std::string_view email);

}  // namespace neutrino::cloud
