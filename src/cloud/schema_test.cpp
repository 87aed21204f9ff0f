// The migrations make the tables that the structs describe, on both engines.
#include "cloud/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cloud/provider.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

using ::testing::ElementsAre;

class SchemaTest : public store::testing::OnBothEngines {};

TEST_P(SchemaTest, tables_have_the_columns_of_their_structs) {
  store::Database database({.url = new_url()});
  migrate(database, kCloudComponent, cloud_migrations());
  const Tables tables;
  database.read([&](store::Transaction& tx) {
    tables.workspaces.check_columns(tx), tables.members.check_columns(tx), tables.keys.check_columns(tx);
    tables.secrets.check_columns(tx), tables.sessions.check_columns(tx), tables.endpoints.check_columns(tx);
    tables.one_time_keys.check_columns(tx), tables.endpoint_names.check_columns(tx);
    tables.revisions.check_columns(tx), tables.deployments.check_columns(tx);
    tables.replicas.check_columns(tx), tables.shapes.check_columns(tx), tables.node_groups.check_columns(tx);
    tables.nodes.check_columns(tx), tables.events.check_columns(tx), tables.audit.check_columns(tx);
    tables.usage.check_columns(tx), tables.usage_hours.check_columns(tx);
    tables.machine_hours.check_columns(tx), tables.prices.check_columns(tx);
    tables.budgets.check_columns(tx), tables.gateways.check_columns(tx);
  });
}

TEST_P(SchemaTest, an_endpoint_comes_back_as_it_was) {
  store::Database database({.url = new_url()});
  migrate(database, kCloudComponent, cloud_migrations());
  const Tables tables;
  Endpoint made{.id = "chat-1", .workspace = "w", .name = "chat", .aliases = {"gpt-4o"}, .scaled_to = 2};
  made.scaling.schedule.push_back({.days = 3, .replicas_min = 1});
  made.deployments.push_back(
      {.model = "smollm2-135m-instruct", .environment = {{.name = "A", .secret = "b"}}});
  database.write([&](store::Transaction& tx) { tables.endpoints.insert(tx, made); });
  const Endpoint found =
      database.read([&](store::Transaction& tx) { return tables.endpoints.get(tx, "chat-1"); });
  EXPECT_EQ(to_text(to_json(found)), to_text(to_json(made)));
  EXPECT_GT(found.etag, 0);
}

TEST_P(SchemaTest, replicas_forget_by_which_path_they_ran_neutrino) {
  store::Database database({.url = new_url()});
  migrate(database, kCloudComponent, cloud_migrations().first(4));
  const Tables tables;
  const std::string key = "NEUTRINO_API_KEY=@replica-key";
  std::vector<Replica> replicas{
      {.id = "ours",
       .replica_template = {.command = {"/opt/a \"b\"/neutrino", "serve", "m", "{port}"}, .secrets = {key}}},
      {.id = "theirs", .replica_template = {.command = {"/opt/server", "serve", "m"}}},
      {.id = "plain", .replica_template = {.command = {"neutrino", "serve", "m"}, .secrets = {key}}}};
  database.write([&](store::Transaction& tx) {
    for (Replica& replica : replicas) tables.replicas.insert(tx, replica);
  });
  migrate(database, kCloudComponent, cloud_migrations());
  const auto command = [&](const char* id) {
    return database.read(
        [&](store::Transaction& tx) { return tables.replicas.get(tx, id).replica_template.command; });
  };
  EXPECT_THAT(command("ours"), ElementsAre(kOwnProgram, "serve", "m", "{port}"));
  EXPECT_THAT(command("theirs"), ElementsAre("/opt/server", "serve", "m"));
  EXPECT_THAT(command("plain"), ElementsAre("neutrino", "serve", "m"));
}

NEUTRINO_ON_BOTH_ENGINES(SchemaTest);

TEST(Ids, are_not_repeated) { EXPECT_NE(new_id("ep"), new_id("ep")); }

}  // namespace
}  // namespace neutrino::cloud
