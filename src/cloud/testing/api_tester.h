// Calls handlers of the API without a server: the route is found as a server finds it, the caller's rights are checked, and the handler
// runs in a transaction.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "cloud/api/api.h"
#include "cloud/api/caller.h"
#include "cloud/api/query.h"
#include "cloud/secret_box.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud::testing {

class ApiTester {
 public:
  using Subject = std::vector<ApiRoute> (*)(const ApiServices&);

  explicit ApiTester(Subject subject) : table_(subject(services)) {
    for (const ApiRoute& route : table_) routes_.push_back({.spec = route.spec, .handle = {}});
    migrate(database, kCloudComponent, cloud_migrations());
  }
  ApiTester(const ApiTester&) = delete;

  struct Sent {
    Caller caller = {};
    net::Method method = net::Method::get;
    std::string path;  // with its query
    json::value body = nullptr;
    std::vector<net::Header> headers = {};
  };

  // Throws what the handler throws.
  ApiAnswer answer(const Sent& sent) {
    net::Request request{.method = sent.method, .headers = sent.headers, .peer = "127.0.0.1:1"};
    const size_t mark = std::min(sent.path.find('?'), sent.path.size());
    request.path = sent.path.substr(0, mark);
    request.query = mark < sent.path.size() ? sent.path.substr(mark + 1) : "";
    const net::Route& found = net::find_route(routes_, request);
    const ApiRoute& route = table_.at(static_cast<size_t>(&found - routes_.data()));
    ApiCall call{.http = request, .caller = sent.caller, .body = sent.body, .now_ms = now_ms};
    call.query = parse_query(request.query);
    if (!allows(call.caller, route.needs)) throw Error(ErrorCode::permission_denied, "").with_reason("role");
    if (route.prepare) route.prepare(call);
    return database.write([&](store::Transaction& tx) { return route.handle(call, tx); });
  }

  // "200", or the error as "permission_denied insufficient_role platform": code, reason, param.
  std::string result(const Sent& sent) {
    try {
      return std::to_string(answer(sent).status);
    } catch (const Error& error) {
      std::string text(error_code_name(error.code()));
      for (const std::string& word : {error.reason(), error.param()})
        if (!word.empty()) text += " " + word;
      return text;
    }
  }

  template <typename T>
  T add(const store::Table<T>& table, T row) {
    database.write([&](store::Transaction& tx) { table.insert(tx, row); });
    return row;
  }
  template <typename Work>
  auto read(Work work) {
    return database.read([&](store::Transaction& tx) { return work(tx); });
  }

  store::testing::TestDatabases databases;
  store::Database database{
      {.url = databases.new_url(store::testing::Engine::sqlite), .durability = store::Durability::none}};
  const Tables tables;
  store::ChangeLog changes{database};
  SecretBox secrets{databases.folder() / "secret.key"};
  SystemClock clock;
  int64_t now_ms = 1'700'000'000'000;
  ApiServices services{.database = database,
                       .tables = tables,
                       .changes = changes,
                       .secrets = secrets,
                       .clock = clock,
                       .read_log = {},
                       .predict_memory = {}};

 private:
  std::vector<ApiRoute> table_;
  std::vector<net::Route> routes_;
};

}  // namespace neutrino::cloud::testing
