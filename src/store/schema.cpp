#include "store/schema.h"

namespace neutrino::store {
namespace {

constexpr Migration kMigrations[] = {
    {1, "writers, change log, idempotency keys", R"(
      CREATE TABLE store_writers (
        id TEXT NOT NULL PRIMARY KEY,   -- of one Database object
        group_number BIGINT NOT NULL,   -- of its last group that was committed
        at_ms BIGINT NOT NULL
      );
      CREATE TABLE store_changes (
        seq BIGINT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        operation TEXT NOT NULL,
        etag BIGINT NOT NULL,
        at_ms BIGINT NOT NULL
      );
      CREATE INDEX store_changes_by_workspace ON store_changes (workspace, seq);
      CREATE TABLE store_idempotency_keys (
        workspace TEXT NOT NULL,
        key TEXT NOT NULL,
        request_sha256 TEXT NOT NULL,
        answer TEXT NOT NULL,
        at_ms BIGINT NOT NULL,
        PRIMARY KEY (workspace, key)
      );
      CREATE INDEX store_idempotency_keys_by_age ON store_idempotency_keys (at_ms);
    )"},
};

}  // namespace

std::span<const Migration> store_migrations() { return kMigrations; }

}  // namespace neutrino::store
