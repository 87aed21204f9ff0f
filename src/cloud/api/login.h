// The parts of login_api(): a file a subject.
#pragma once

#include <string>
#include <vector>

#include "cloud/api/api.h"
#include "cloud/sessions.h"

namespace neutrino::cloud {

std::vector<ApiRoute> oidc_api(const ApiServices& services);

// Who has just signed in, for the audit log.
Caller signed_in_caller(store::Transaction& transaction, const Tables& tables, const std::string& email);

json::object session_json(const SignedIn& session);

}  // namespace neutrino::cloud
