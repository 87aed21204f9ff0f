#include "cloud/schema.h"

#include "base/random.h"

namespace neutrino::cloud {
namespace {

constexpr store::Migration kMigrations[] = {
    {1, "tenants", R"(
      CREATE TABLE workspaces (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE UNIQUE INDEX workspaces_by_name ON workspaces (name);
      CREATE TABLE members (
        id TEXT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        email TEXT NOT NULL,
        role TEXT NOT NULL,
        platform BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE UNIQUE INDEX members_by_email ON members (workspace, email);
      CREATE INDEX members_of_person ON members (email);
      CREATE TABLE api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        name TEXT NOT NULL,
        member TEXT NOT NULL,
        prefix TEXT NOT NULL,
        digest TEXT NOT NULL,
        inference BIGINT NOT NULL,
        api_role TEXT NOT NULL,
        platform BIGINT NOT NULL,
        models TEXT NOT NULL,
        limits TEXT NOT NULL,
        expires_ms BIGINT NOT NULL,
        revoked_ms BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE UNIQUE INDEX api_keys_by_name ON api_keys (workspace, name);
      CREATE UNIQUE INDEX api_keys_by_digest ON api_keys (digest);
      CREATE TABLE secrets (
        id TEXT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        name TEXT NOT NULL,
        sealed TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE UNIQUE INDEX secrets_by_name ON secrets (workspace, name);
      CREATE TABLE sessions (
        digest TEXT NOT NULL PRIMARY KEY,
        email TEXT NOT NULL,
        how TEXT NOT NULL,
        expires_ms BIGINT NOT NULL,
        created_ms BIGINT NOT NULL
      );
      CREATE TABLE one_time_keys (
        digest TEXT NOT NULL PRIMARY KEY,
        email TEXT NOT NULL,
        how TEXT NOT NULL,
        expires_ms BIGINT NOT NULL
      );
    )"},
    {2, "endpoints and what runs for them", R"(
      CREATE TABLE endpoints (
        id TEXT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        name TEXT NOT NULL,
        aliases TEXT NOT NULL,
        adapters TEXT NOT NULL,
        policy TEXT NOT NULL,
        sticky_header TEXT NOT NULL,
        limits TEXT NOT NULL,
        output_tokens_max BIGINT NOT NULL,
        held_max BIGINT NOT NULL,
        wake_timeout_ms BIGINT NOT NULL,
        first_byte_timeout_ms BIGINT NOT NULL,
        paused BIGINT NOT NULL,
        scaling TEXT NOT NULL,
        deployments TEXT NOT NULL,
        scaled_to BIGINT,
        scaled_ms BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE UNIQUE INDEX endpoints_by_name ON endpoints (workspace, name);
      CREATE INDEX endpoints_of_workspace ON endpoints (workspace, id);
      CREATE TABLE endpoint_names (
        workspace TEXT NOT NULL,
        name TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        PRIMARY KEY (workspace, name)
      );
      CREATE INDEX endpoint_names_of_endpoint ON endpoint_names (endpoint);
      CREATE TABLE revisions (
        endpoint TEXT NOT NULL,
        deployment TEXT NOT NULL,
        revision BIGINT NOT NULL,
        workspace TEXT NOT NULL,
        spec TEXT NOT NULL,
        author TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        PRIMARY KEY (endpoint, deployment, revision)
      );
      CREATE TABLE deployments (
        id TEXT NOT NULL PRIMARY KEY,
        endpoint TEXT NOT NULL,
        workspace TEXT NOT NULL,
        replicas BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        replicas_made BIGINT NOT NULL,
        template TEXT NOT NULL,
        rollout TEXT NOT NULL
      );
      CREATE INDEX deployments_of_endpoint ON deployments (endpoint);
      CREATE TABLE replicas (
        id TEXT NOT NULL PRIMARY KEY,
        deployment TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        workspace TEXT NOT NULL,
        node TEXT NOT NULL,
        revision BIGINT NOT NULL,
        generation BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        goal TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        host TEXT NOT NULL,
        port BIGINT NOT NULL,
        template TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        ready_ms BIGINT NOT NULL,
        drain_ms BIGINT NOT NULL,
        retry_ms BIGINT NOT NULL,
        failures BIGINT NOT NULL
      );
      CREATE INDEX replicas_of_deployment ON replicas (deployment);
      CREATE INDEX replicas_of_endpoint ON replicas (endpoint);
      CREATE INDEX replicas_of_workspace ON replicas (workspace, id);
      CREATE TABLE shapes (
        name TEXT NOT NULL PRIMARY KEY,
        memory_bytes BIGINT NOT NULL,
        cores DOUBLE PRECISION NOT NULL,
        price_per_hour BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE TABLE node_groups (
        name TEXT NOT NULL PRIMARY KEY,
        provider TEXT NOT NULL,
        workspaces TEXT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE TABLE nodes (
        name TEXT NOT NULL PRIMARY KEY,
        node_group TEXT NOT NULL,
        phase TEXT NOT NULL,
        cores DOUBLE PRECISION NOT NULL,
        memory_bytes BIGINT NOT NULL,
        memory_available_bytes BIGINT NOT NULL,
        kernel_table TEXT NOT NULL,
        memory_bytes_per_second DOUBLE PRECISION NOT NULL,
        seen_ms BIGINT NOT NULL
      );
    )"},
    {3, "events and audit", R"(
      CREATE TABLE events (
        id BIGINT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        deployment TEXT NOT NULL,
        replica TEXT NOT NULL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        count BIGINT NOT NULL,
        at_ms BIGINT NOT NULL
      );
      CREATE INDEX events_of_workspace ON events (workspace, id);
      CREATE INDEX events_of_endpoint ON events (endpoint, id);
      CREATE INDEX events_by_age ON events (at_ms);
      CREATE TABLE audit (
        id BIGINT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        at_ms BIGINT NOT NULL,
        actor TEXT NOT NULL,
        address TEXT NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        status BIGINT NOT NULL,
        request_id TEXT NOT NULL,
        message TEXT NOT NULL
      );
      CREATE INDEX audit_of_workspace ON audit (workspace, id);
    )"},
    {4, "usage, prices, budgets", R"(
      CREATE TABLE usage_requests (
        id TEXT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        gateway TEXT NOT NULL,
        sequence BIGINT NOT NULL,
        request_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        deployment TEXT NOT NULL,
        replica TEXT NOT NULL,
        key TEXT NOT NULL,
        member TEXT NOT NULL,
        model TEXT NOT NULL,
        path TEXT NOT NULL,
        status BIGINT NOT NULL,
        complete BIGINT NOT NULL,
        exact BIGINT NOT NULL,
        settled BIGINT NOT NULL,
        started_ms BIGINT NOT NULL,
        queue_ms BIGINT NOT NULL,
        replica_ms BIGINT NOT NULL,
        first_token_ms BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        reasoning_tokens BIGINT NOT NULL,
        price_input BIGINT NOT NULL,
        price_cached_input BIGINT NOT NULL,
        price_output BIGINT NOT NULL,
        cost BIGINT NOT NULL
      );
      CREATE INDEX usage_requests_by_time ON usage_requests (workspace, started_ms, id);
      CREATE INDEX usage_requests_unsettled ON usage_requests (settled, replica);
      CREATE TABLE usage_hours (
        workspace TEXT NOT NULL,
        hour_ms BIGINT NOT NULL,
        endpoint TEXT NOT NULL,
        key TEXT NOT NULL,
        member TEXT NOT NULL,
        model TEXT NOT NULL,
        requests BIGINT NOT NULL,
        failed BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        reasoning_tokens BIGINT NOT NULL,
        queue_ms BIGINT NOT NULL,
        replica_ms BIGINT NOT NULL,
        cost BIGINT NOT NULL,
        PRIMARY KEY (workspace, hour_ms, endpoint, key, member, model)
      );
      CREATE TABLE machine_hours (
        workspace TEXT NOT NULL,
        hour_ms BIGINT NOT NULL,
        endpoint TEXT NOT NULL,
        deployment TEXT NOT NULL,
        replica TEXT NOT NULL,
        shape TEXT NOT NULL,
        running_ms BIGINT NOT NULL,
        until_ms BIGINT NOT NULL,
        memory_bytes BIGINT NOT NULL,
        cores DOUBLE PRECISION NOT NULL,
        cost BIGINT NOT NULL,
        PRIMARY KEY (workspace, hour_ms, endpoint, deployment, replica)
      );
      CREATE INDEX machine_hours_of_replica ON machine_hours (replica, until_ms);
      CREATE TABLE prices (
        model TEXT NOT NULL PRIMARY KEY,
        input BIGINT NOT NULL,
        cached_input BIGINT NOT NULL,
        output BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE TABLE budgets (
        id TEXT NOT NULL PRIMARY KEY,
        workspace TEXT NOT NULL,
        name TEXT NOT NULL,
        subject TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        unit TEXT NOT NULL,
        amount BIGINT NOT NULL,
        hard BIGINT NOT NULL,
        period TEXT NOT NULL,
        period_begin_ms BIGINT NOT NULL,
        spent BIGINT NOT NULL,
        told_percent BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        etag BIGINT NOT NULL
      );
      CREATE UNIQUE INDEX budgets_by_name ON budgets (workspace, name);
      CREATE INDEX budgets_of_subject ON budgets (workspace, subject_id);
      CREATE TABLE gateways (
        id TEXT NOT NULL PRIMARY KEY,
        usage_sequence BIGINT NOT NULL,
        seen_ms BIGINT NOT NULL
      );
    )"},
    // Replicas of models were told by which path to run neutrino; `at` looks for the end of that path.
    {5, "commands without neutrino's path", R"(
      UPDATE replicas SET template = '{"command":["{neutrino}' || substr(template, (
        WITH RECURSIVE at(i) AS (SELECT 14 UNION ALL SELECT i + 1 FROM at WHERE i < 5000)
        SELECT MIN(i) FROM at WHERE substr(template, i, 9) = '","serve"'
      ))
      WHERE template LIKE '{"command":["/%","serve",%' AND template LIKE '%"NEUTRINO_API_KEY=@replica-key"%';
    )"},
};

}  // namespace

std::span<const store::Migration> cloud_migrations() { return kMigrations; }

void add_event(store::Transaction& tx, const Tables& tables, EventRow event) {
  const auto same = [&](const EventRow& last) {
    return last.endpoint == event.endpoint && last.deployment == event.deployment &&
           last.replica == event.replica && last.reason == event.reason && last.message == event.message;
  };
  const store::Page<EventRow> last =
      tables.events.list(tx, {.filters = {{.field = "workspace", .value = event.workspace}},
                              .direction = store::Direction::descending,
                              .limit = 1});
  if (!last.rows.empty() && same(last.rows[0])) {
    EventRow again = last.rows[0];
    again.count += event.count;
    again.at_ms = event.at_ms;
    return tables.events.update(tx, again);
  }
  const auto newest = tx.query_row("SELECT COALESCE(MAX(id), 0) FROM events");
  event.id = store::as_integer(newest->at(0), "an event's number") + 1;
  tables.events.insert(tx, event);
}

std::string new_id(std::string_view prefix) {
  constexpr std::string_view kLetters =
      "0123456789abcdefghjkmnpqrstvwxyz";  // Crockford's: none is taken for another
  std::string id = std::string(prefix) + "-";
  uint64_t bits = system_entropy();
  for (int i = 0; i < 8; ++i, bits >>= 5) id += kLetters[bits & 31];
  return id;
}

}  // namespace neutrino::cloud
