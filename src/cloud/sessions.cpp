#include "cloud/sessions.h"

#include "base/error.h"
#include "cloud/api_key.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

void forget_expired(store::Transaction& transaction, int64_t now_ms) {
  transaction.execute("DELETE FROM sessions WHERE expires_ms <= ?", now_ms);
  transaction.execute("DELETE FROM one_time_keys WHERE expires_ms <= ?", now_ms);
}

}  // namespace

SignedIn start_session(store::Transaction& transaction, const Tables& tables, const std::string& email,
                       const std::string& how, int64_t now_ms) {
  forget_expired(transaction, now_ms);
  const NewKey made = make_key(KeyKind::session);
  Session session{.digest = made.digest,
                  .email = email,
                  .how = how,
                  .expires_ms = now_ms + limits::kSessionSeconds * 1000,
                  .created_ms = now_ms};
  tables.sessions.insert(transaction, session);
  return {.token = made.text, .expires_ms = session.expires_ms, .email = email};
}

std::string make_one_time_key(store::Transaction& transaction, const Tables& tables, const std::string& email,
                              const std::string& how, int64_t expires_ms) {
  const NewKey made = make_key(KeyKind::one_time);
  OneTimeKey key{.digest = made.digest, .email = email, .how = how, .expires_ms = expires_ms};
  tables.one_time_keys.insert(transaction, key);
  return made.text;
}

SignedIn use_one_time_key(store::Transaction& transaction, const Tables& tables, std::string_view text,
                          int64_t now_ms) {
  if (key_kind(text) != KeyKind::one_time)
    throw Error(ErrorCode::unauthenticated,
                "this is no one-time key: it is mistyped or cut, or of another kind")
        .with_reason("malformed_key");
  const auto key = tables.one_time_keys.find(transaction, key_digest(text));
  if (!key || key->expires_ms <= now_ms)
    throw Error(ErrorCode::unauthenticated, "this one-time key is not good: it was used, or has expired")
        .with_reason("unknown_key");
  tables.one_time_keys.erase(transaction, *key);
  return start_session(transaction, tables, key->email, key->how, now_ms);
}

}  // namespace neutrino::cloud
