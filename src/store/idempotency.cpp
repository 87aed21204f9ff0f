#include "store/idempotency.h"

#include "base/limits.h"

namespace neutrino::store {
namespace {

constexpr int64_t kKeptMilliseconds = limits::kIdempotencyHours * 3'600'000;

}  // namespace

std::optional<std::string> find_answer(Transaction& transaction, const IdempotencyKey& key, int64_t now_ms) {
  if (key.key.empty() || std::ssize(key.key) > limits::kIdempotencyKeyBytes || !is_storable_text(key.key))
    throw make_error(ErrorCode::invalid_argument, "Idempotency-Key must have 1-{} bytes of UTF-8, got {}",
                     limits::kIdempotencyKeyBytes, key.key.size())
        .with_param("Idempotency-Key");
  const auto row = transaction.query_row(
      "SELECT request_sha256, answer FROM store_idempotency_keys WHERE workspace = ? AND key = ? AND at_ms > "
      "?",
      key.workspace, key.key, now_ms - kKeptMilliseconds);
  if (!row) return std::nullopt;
  if (as_text(row->at(0), "request_sha256") != key.request_sha256)
    throw make_error(ErrorCode::failed_precondition, "Idempotency-Key '{}' was used for another request",
                     key.key)
        .with_reason("idempotency_key_reused")
        .with_param("Idempotency-Key");
  return as_text(row->at(1), "answer");
}

void store_answer(Transaction& transaction, const IdempotencyKey& key, std::string_view answer,
                  int64_t now_ms) {
  transaction.execute(
      "INSERT INTO store_idempotency_keys (workspace, key, request_sha256, answer, at_ms) VALUES (?, ?, ?, "
      "?, ?) "
      "ON CONFLICT (workspace, key) DO UPDATE SET request_sha256 = excluded.request_sha256, answer = "
      "excluded.answer, "
      "at_ms = excluded.at_ms",
      key.workspace, key.key, key.request_sha256, answer, now_ms);
}

int64_t expire_answers(Transaction& transaction, int64_t now_ms) {
  return transaction.execute("DELETE FROM store_idempotency_keys WHERE at_ms <= ?",
                             now_ms - kKeptMilliseconds);
}

}  // namespace neutrino::store
