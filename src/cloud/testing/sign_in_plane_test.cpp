// `sign-in-plane FOLDER PORT`: the sign-in part of a control plane, for tests/e2e/test_oidc.py: a server of the routes for tenants and
// sign-in, on a database of its own, with the OpenID provider that FOLDER/oidc.json describes. The first admin's one-time key is in
// FOLDER/admin.key. Prints its URL, serves until it is ended.
#include <cstdio>
#include <cstdlib>

#include "cloud/api/caller.h"
#include "cloud/api/routes.h"
#include "cloud/bootstrap.h"
#include "cloud/oidc.h"
#include "cloud/secret_box.h"
#include "cloud/testing/programs.h"
#include "net/server.h"

namespace neutrino::cloud::testing {

int run_sign_in_plane(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::filesystem::path folder = argv[1];
  const SystemClock clock;
  const Tables tables;
  store::Database database({.url = folder / "cloud.db"});
  migrate(database, kCloudComponent, cloud_migrations());
  bootstrap(database, tables, clock.unix_ms(), folder / "admin.key");
  store::ChangeLog changes(database);
  const SecretBox secrets(folder / "secret.key");
  OidcProvider oidc(read_oidc_options(folder / "oidc.json"), clock);
  const ApiServices services{.database = database,
                             .tables = tables,
                             .changes = changes,
                             .secrets = secrets,
                             .clock = clock,
                             .read_log = {},
                             .predict_memory = {},
                             .oidc = &oidc};
  net::Workers workers(2);
  net::HttpServer server({.port = std::atoi(argv[2])});
  std::vector<ApiRoute> table = tenant_api(services);
  for (ApiRoute& route : login_api(services)) table.push_back(std::move(route));
  server.set_routes(make_api_routes(services, workers, std::move(table), find_caller));
  server.listen();
  std::printf("http://127.0.0.1:%d\n", server.port());
  std::fflush(stdout);
  server.run();
  return 0;
}

}  // namespace neutrino::cloud::testing
