// The cloud's tables: what migrations make them, and the face of each.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cloud/endpoint.h"
#include "cloud/ledger.h"
#include "cloud/records.h"
#include "cloud/resources.h"
#include "cloud/tenants.h"
#include "store/migrations.h"
#include "store/table.h"

namespace neutrino::cloud {

inline constexpr std::string_view kCloudComponent = "cloud";
std::span<const store::Migration> cloud_migrations();

// Those with a kind are in the change log, which etags, watches, the controller and route tables live on.
struct Tables {
  store::Table<Workspace> workspaces{{.name = "workspaces", .kind = "workspace"}};
  store::Table<Member> members{{.name = "members", .kind = "member"}};
  store::Table<KeyRow> keys{{.name = "api_keys", .kind = "key"}};
  store::Table<Secret> secrets{{.name = "secrets", .kind = "secret"}};
  store::Table<Session> sessions{{.name = "sessions"}};
  store::Table<OneTimeKey> one_time_keys{{.name = "one_time_keys"}};
  store::Table<Endpoint> endpoints{{.name = "endpoints", .kind = "endpoint"}};
  store::Table<EndpointName> endpoint_names{{.name = "endpoint_names"}};
  store::Table<Revision> revisions{{.name = "revisions"}};
  store::Table<Deployment> deployments{{.name = "deployments", .kind = "deployment"}};
  store::Table<Replica> replicas{{.name = "replicas", .kind = "replica"}};
  store::Table<Shape> shapes{{.name = "shapes", .kind = "shape"}};
  store::Table<NodeGroup> node_groups{{.name = "node_groups", .kind = "node_group"}};
  store::Table<Node> nodes{{.name = "nodes"}};
  store::Table<EventRow> events{{.name = "events", .kind = "event"}};
  store::Table<AuditRow> audit{{.name = "audit"}};
  store::Table<UsageRow> usage{{.name = "usage_requests"}};
  store::Table<UsageHour> usage_hours{{.name = "usage_hours"}};
  store::Table<MachineHour> machine_hours{{.name = "machine_hours"}};
  store::Table<Price> prices{{.name = "prices", .kind = "price"}};
  store::Table<Budget> budgets{{.name = "budgets", .kind = "budget"}};
  store::Table<GatewayRow> gateways{{.name = "gateways"}};
};

// Gives the event the next number and writes it; one that equals the workspace's last is that one once more.
void add_event(store::Transaction& tx, const Tables& tables, EventRow event);

// "ep-7k2m4q9w": a prefix and random characters, never used again.
std::string new_id(std::string_view prefix);

}  // namespace neutrino::cloud
