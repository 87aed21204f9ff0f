// Revisions: what a deployment was each time that its replicas became different ones, counted from 1 as long as the endpoint lives.
#pragma once

#include <string>

#include "cloud/schema.h"
#include "store/transaction.h"

namespace neutrino::cloud {

// Gives each deployment its revision: that of `before` where its replicas stay as they are, else the next. `before` may be null.
void count_revisions(store::Transaction& transaction, Endpoint& endpoint, const Endpoint* before);

// Keeps what is not kept yet, and forgets what is too old.
void keep_revisions(const Tables& tables, store::Transaction& transaction, const Endpoint& endpoint,
                    const std::string& author, int64_t now_ms);

// Makes a deployment's replicas what they were at a revision, under that revision's number, so that those which still run it stay;
// 0: the last one before what it has now. Its share, its replicas and its rollout are left. Throws Error{not_found}.
void roll_back(const Tables& tables, store::Transaction& transaction, const Endpoint& endpoint,
               DeploymentSpec& deployment, int64_t revision);

}  // namespace neutrino::cloud
