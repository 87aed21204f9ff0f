// A control plane's API on loopback, for tests: a database, a server with routes, workspaces and keys to call them with.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cloud/api/caller.h"
#include "cloud/api/routes.h"
#include "cloud/api_key.h"
#include "cloud/secret_box.h"
#include "net/server.h"
#include "net/testing/raw_client.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud::testing {

using net::testing::RawClient;
using net::testing::Reply;
using store::Transaction;

inline std::string bearer(const std::string& key) {
  return key.empty() ? std::string() : "Authorization: Bearer " + key + "\r\n";
}

class ApiServer {
 public:
  using MakeTable = std::function<std::vector<ApiRoute>(const ApiServices&)>;
  explicit ApiServer(const std::string& database_url = "", const MakeTable& make_table = all_api_routes)
      : database_({.url = database_url.empty() ? (folder_.path() / "cloud.db").string() : database_url}) {
    store::migrate(database_, kCloudComponent, cloud_migrations());
    changes_ = std::make_unique<store::ChangeLog>(database_);
    services_ = std::make_unique<ApiServices>(ApiServices{
        .database = database_,
        .tables = tables_,
        .changes = *changes_,
        .secrets = secrets_,
        .clock = clock_,
        .read_log = [this](const std::string& id, int64_t cursor,
                           int64_t bytes) { return read_log ? read_log(id, cursor, bytes) : LogChunk{}; },
        .predict_memory = [this](const std::string& model,
                                 const std::vector<std::string>&) { return predicted(model); }});
    table = make_table(*services_);
    server_.set_routes(make_api_routes(*services_, workers_, table, find_caller));
    server_.listen();
    thread_ = std::thread([this] { server_.run(); });
  }
  ~ApiServer() {
    table.clear();  // it watches the change log, which goes with the members below
    server_.stop();
    thread_.join();
  }
  ApiServer(const ApiServer&) = delete;

  int port() const { return server_.port(); }
  store::Database& database() { return database_; }
  const Tables& tables() const { return tables_; }
  const ApiServices& services() const { return *services_; }

  template <typename T>
  T insert(const store::Table<T>& rows, T row) {
    return database_.write([&](Transaction& tx) {
      T copy = row;
      rows.insert(tx, copy);
      return copy;
    });
  }

  // A workspace of this id and name.
  void add_workspace(const std::string& name) {
    insert(tables_.workspaces, Workspace{.id = name, .name = name, .created_ms = clock_.unix_ms()});
  }
  // A key of the workspace for the API; `row` says what it may.
  std::string add_key(KeyRow row) {
    const NewKey key = make_key(KeyKind::api_key);
    row.id = new_id("key");
    if (row.name.empty()) row.name = row.id;
    row.prefix = key.prefix;
    row.digest = key.digest;
    insert(tables_.keys, row);
    return key.text;
  }
  std::string add_key(const std::string& workspace, Role role, bool platform = false) {
    return add_key({.workspace = workspace, .api_role = std::string(enum_name(role)), .platform = platform});
  }

  Reply call(std::string_view method, std::string_view path, const std::string& key,
             std::string_view body = "", std::string_view headers = "") const {
    RawClient client(server_.port());
    std::string request =
        fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}{}", method, path, bearer(key), headers);
    if (!body.empty())
      request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
    client.send(request + "Connection: close\r\n\r\n" + std::string(body));
    return client.read_reply(method == "HEAD");
  }
  // Of a reply that must have this status.
  json::object get(const Reply& reply, int status = 200) const {
    EXPECT_EQ(reply.status, status) << reply.body;
    const json::value body = reply.body.empty() ? json::value(json::object()) : parse_json(reply.body);
    return body.is_object() ? body.get_object() : json::object();
  }

  std::function<LogChunk(const std::string&, int64_t, int64_t)> read_log;
  std::vector<ApiRoute> table;

 private:
  // "m-<bytes>": so many; all other models are not there.
  static int64_t predicted(const std::string& model) {
    if (model.starts_with("m-")) return std::stoll(model.substr(2));
    throw make_error(ErrorCode::invalid_argument, "there is no model '{}'", model);
  }

  store::testing::TemporaryFolder folder_;
  const SystemClock clock_;
  const SecretBox secrets_{folder_.path() / "keys"};
  store::Database database_;
  const Tables tables_;
  std::unique_ptr<store::ChangeLog> changes_;
  std::unique_ptr<ApiServices> services_;
  net::Workers workers_{2};
  net::HttpServer server_{{.port = 0, .tick = std::chrono::milliseconds(20)}};
  std::thread thread_;
};

// {"error": {"code", "param"}} of a refusal, as "code param".
inline std::string refusal(const Reply& reply) {
  const json::value body = parse_json(reply.body);
  const json::value& error = body.at("error");
  const auto text = [&](std::string_view name) {
    return error.at(name).is_string() ? std::string(error.at(name).as_string()) : std::string("-");
  };
  return fmt::format("{} {} {}", reply.status, text("code"), text("param"));
}

}  // namespace neutrino::cloud::testing
