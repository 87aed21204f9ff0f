// Signing in: one-time keys, and the sessions that they and other proofs begin.
//
// All of it happens in a transaction of the caller's: a one-time key is erased by the very transaction that writes its session, so it
// is good once, however many try at once and wherever a process dies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cloud/schema.h"

namespace neutrino::cloud {

struct SignedIn {
  std::string token;  // of the session: shown once, kept as a digest only
  int64_t expires_ms = 0;
  std::string email;
};

// A session of limits::kSessionSeconds. Sessions and one-time keys that have expired are forgotten on the way.
SignedIn start_session(store::Transaction& transaction, const Tables& tables, const std::string& email,
                       const std::string& how, int64_t now_ms);

// Returns its text. `how`: what its session will say of itself.
std::string make_one_time_key(store::Transaction& transaction, const Tables& tables, const std::string& email,
                              const std::string& how, int64_t expires_ms);

// Throws Error{unauthenticated}, reason malformed_key or unknown_key: also for one that has expired or was used.
SignedIn use_one_time_key(store::Transaction& transaction, const Tables& tables, std::string_view text,
                          int64_t now_ms);

}  // namespace neutrino::cloud
