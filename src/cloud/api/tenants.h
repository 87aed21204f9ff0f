// The parts of tenant_api(): a file a subject.
#pragma once

#include <vector>

#include "cloud/api/api.h"

namespace neutrino::cloud {

std::vector<ApiRoute> workspace_api(const ApiServices& services);
std::vector<ApiRoute> member_api(const ApiServices& services);
std::vector<ApiRoute> key_api(const ApiServices& services);
std::vector<ApiRoute> secret_api(const ApiServices& services);

// A member of a workspace by its email in lower case, or by its id. nullopt: there is none.
std::optional<Member> find_member(store::Transaction& transaction, const Tables& tables,
                                  const std::string& workspace, const std::string& who);

// As it is kept: in lower case. Throws Error{invalid_argument, param} for what is no email address.
std::string check_email(const std::string& path, const std::string& email);

// Makes a member's keys good no more, and tells the gateways so.
void revoke_keys_of(store::Transaction& transaction, const Tables& tables, const Member& member,
                    int64_t now_ms);

}  // namespace neutrino::cloud
