// Idempotency keys: a client that asks again under the same key gets the answer that was stored with the effect, and nothing
// happens twice. Call find() first and store() last, in the transaction that does the work; as writers exclude each
// other, of two equal requests at once the second finds the answer of the first.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "store/transaction.h"

namespace neutrino::store {

struct IdempotencyKey {
  std::string workspace;
  std::string key;             // as the client chose it: 1 to limits::kIdempotencyKeyBytes
  std::string request_sha256;  // of method, path and body: what must be the same
};

// The answer stored under the key less than limits::kIdempotencyHours ago. Throws Error{invalid_argument, param "Idempotency-Key"} for a
// key of a wrong size, Error{failed_precondition, reason "idempotency_key_reused"} if another request was made under it.
std::optional<std::string> find_answer(Transaction& transaction, const IdempotencyKey& key, int64_t now_ms);

void store_answer(Transaction& transaction, const IdempotencyKey& key, std::string_view answer,
                  int64_t now_ms);

// Erases what is too old to be found; returns how many. To be called now and then.
int64_t expire_answers(Transaction& transaction, int64_t now_ms);

}  // namespace neutrino::store
