#include "cloud/control_plane.h"

#include <fcntl.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "cloud/accountant.h"
#include "cloud/api/routes.h"
#include "cloud/bootstrap.h"
#include "cloud/controller.h"
#include "cloud/link.h"
#include "cloud/model_need.h"
#include "cloud/oidc.h"
#include "cloud/providers/local.h"
#include "cloud/secret_box.h"

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr int kWorkers = 4;
constexpr auto kLockPatience = std::chrono::seconds(20);
constexpr int64_t kLogsKeptMilliseconds = 10'000;  // of a replica that is over, at least

// One that was killed a moment ago may still be draining.
FileDescriptor lock_folder(const fs::path& folder) {
  fs::create_directories(folder);
  const fs::path file = folder / "control-plane.lock";
  FileDescriptor lock(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) throw system_error("open", file);
  const auto until = std::chrono::steady_clock::now() + kLockPatience;
  while (!try_lock(lock, Lock::exclusive)) {
    if (std::chrono::steady_clock::now() >= until)
      throw make_error(ErrorCode::failed_precondition, "another control plane has {}", folder.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return lock;
}

store::DatabaseOptions database_options(const ControlPlaneOptions& options) {
  return {.url = options.database.empty() ? (options.folder / "cloud.db").string() : options.database};
}

ProviderOptions provider_options(const ControlPlaneOptions& options) {
  ProviderOptions result = options.provider_options;
  result.folder = options.folder / "replicas";
  return result;
}

}  // namespace

struct ControlPlane::Impl {
  explicit Impl(ControlPlaneOptions with);
  ~Impl();

  void let_somebody_in();
  ApiServices services();
  LinkServices link_services();
  ControllerParts controller_parts();
  AccountantParts accountant_parts();
  std::vector<std::string> secrets_of(const Replica& replica);
  std::string secret_value(const Replica& replica, const std::string& name);
  std::string replica_key(const std::string& deployment) const;
  int64_t count(const std::string& gateway, int64_t after, const std::vector<UsageRecord>& records);
  LogChunk read_log(const std::string& id, int64_t cursor, int64_t bytes_max);
  bool may_remove(const std::string& id);

  const ControlPlaneOptions options;
  FileDescriptor lock;
  SystemClock clock;
  const Tables tables;
  store::Database database;
  store::ChangeLog changes;
  SecretBox secrets;
  const std::string token;
  UsageLedger ledger;
  std::unique_ptr<Provider> provider;  // the controller's
  std::mutex reader_mutex;
  std::unique_ptr<Provider> reader;  // of the same folder, for logs; under the mutex
  GatewayBook gateways;
  RouteBoard routes;
  net::HttpServer api, link;
  net::Workers api_workers{kWorkers}, link_workers{1};
  Prober prober;
  LinkServer link_server;
  const std::unique_ptr<OidcProvider> oidc;  // null: nobody signs in that way
  const ApiServices api_services;
  std::unique_ptr<Controller> controller;
  std::unique_ptr<Accountant> accountant;
  std::map<std::string, int64_t> over_since_ms;  // the controller's: replicas whose process is gone
};

// ---- what its parts ask of each other

ApiServices ControlPlane::Impl::services() {
  return {.database = database,
          .tables = tables,
          .changes = changes,
          .secrets = secrets,
          .clock = clock,
          .read_log = [this](const std::string& id, int64_t cursor,
                             int64_t bytes_max) { return read_log(id, cursor, bytes_max); },
          .predict_memory =
              [this](const std::string& model, const std::vector<std::string>& arguments) {
                return predict_memory(options.program, model, arguments);
              },
          .oidc = oidc.get()};
}

LinkServices ControlPlane::Impl::link_services() {
  return {.routes = routes,
          .report =
              [this](const std::string& gateway, GatewayReport report, std::vector<std::string> wakes) {
                gateways.take(gateway, std::move(report), clock.unix_ms());
                for (const std::string& endpoint : wakes) gateways.wake(endpoint);
                if (!wakes.empty()) controller->wake();
              },
          .count = [this](const std::string& gateway, int64_t after,
                          std::vector<UsageRecord> records) { return count(gateway, after, records); }};
}

ControllerParts ControlPlane::Impl::controller_parts() {
  return {.database = database,
          .tables = tables,
          .provider = *provider,
          .prober = prober,
          .gateways = gateways,
          .routes = routes,
          .ledger = ledger,
          .clock = clock,
          .secrets = [this](const Replica& replica) { return secrets_of(replica); },
          .replica_key = [this](const std::string& deployment) { return replica_key(deployment); },
          .may_remove = [this](const std::string& id) { return may_remove(id); }};
}

AccountantParts ControlPlane::Impl::accountant_parts() {
  return {.database = database,
          .tables = tables,
          .ledger = ledger,
          .clock = clock,
          .read_log = [this](const std::string& id, int64_t cursor,
                             int64_t bytes_max) { return read_log(id, cursor, bytes_max); },
          .observe =
              [this] {
                const std::lock_guard guard(reader_mutex);
                return reader->observe();
              },
          .on_spent = [this] { controller->spent_changed(); }};
}

int64_t ControlPlane::Impl::count(const std::string& gateway, int64_t after,
                                  const std::vector<UsageRecord>& records) {
  const int64_t counted = ledger.count(gateway, records, after);
  controller->spent_changed();
  return counted;
}

LogChunk ControlPlane::Impl::read_log(const std::string& id, int64_t cursor, int64_t bytes_max) {
  const std::lock_guard guard(reader_mutex);
  return reader->read_log(id, cursor, bytes_max);
}

// Logs stay until the accountant has had a look at them.
bool ControlPlane::Impl::may_remove(const std::string& id) {
  const int64_t now = clock.unix_ms();
  const int64_t since = over_since_ms.try_emplace(id, now).first->second;
  if (now - since < kLogsKeptMilliseconds || accountant->settled_ms() < since + kLogsKeptMilliseconds / 2)
    return false;
  over_since_ms.erase(id);
  return true;
}

std::string ControlPlane::Impl::replica_key(const std::string& deployment) const {
  return "rk-" + to_hex(sha256("replica key\n" + token + "\n" + deployment)).substr(0, 40);
}

std::vector<std::string> ControlPlane::Impl::secrets_of(const Replica& replica) {
  std::vector<std::string> values;
  for (const std::string& entry : replica.replica_template.secrets) {
    const size_t equals = entry.find('=');
    const std::string name = entry.substr(equals + 1);
    values.push_back(entry.substr(0, equals + 1) +
                     (name == kReplicaKey ? replica_key(replica.deployment) : secret_value(replica, name)));
  }
  return values;
}

std::string ControlPlane::Impl::secret_value(const Replica& replica, const std::string& name) {
  const std::vector<Secret> found = database.read([&](store::Transaction& tx) {
    return tables.secrets
        .list(tx, {.filters = {{.field = "workspace", .value = replica.workspace},
                               {.field = "name", .value = name}}})
        .rows;
  });
  if (found.empty())
    throw make_error(ErrorCode::not_found, "replica {} wants the secret \"{}\", which is not there",
                     replica.id, name);
  return secrets.open(found[0].sealed, secret_context(replica.workspace, found[0].id));
}

// ---- life

ControlPlane::Impl::Impl(ControlPlaneOptions with)
    : options(std::move(with)),
      lock(lock_folder(options.folder)),
      database(database_options(options)),
      changes(database),
      secrets(options.folder / "secret-keys"),
      token(file_token(options.folder / "link-token")),
      ledger(database, tables, clock),
      provider(make_provider(options.provider, provider_options(options))),
      reader(make_provider(options.provider, provider_options(options))),
      gateways(options.gateway_alive_ms),
      api(options.api),
      link(options.link),
      prober(link.executor(), [this] { controller->wake(); }),
      link_server(link, link_workers, link_services(), token),
      oidc(options.oidc.empty() ? nullptr
                                : std::make_unique<OidcProvider>(read_oidc_options(options.oidc), clock)),
      api_services(services()) {
  migrate(database, kCloudComponent, cloud_migrations());
  let_somebody_in();
  database.read([&](store::Transaction& tx) {
    for (const GatewayRow& row : list_all(tx, tables.gateways)) gateways.expect(row.id, row.seen_ms);
  });
  controller =
      std::make_unique<Controller>(controller_parts(), ControllerOptions{.program = options.program});
  accountant = std::make_unique<Accountant>(accountant_parts());
  api.set_routes(api_routes(api_services, api_workers));
}

void ControlPlane::Impl::let_somebody_in() {
  const fs::path file = options.folder / "one-time-key";
  const bool first = bootstrap(database, tables, clock.unix_ms(), file);
  if (!first && !options.new_admin_key) return;
  if (!first) bootstrap_again(database, tables, clock.unix_ms(), file);
  if (options.on_admin_key) options.on_admin_key(file);
}

ControlPlane::Impl::~Impl() { accountant.reset(); }

ControlPlane::ControlPlane(ControlPlaneOptions options) : impl_(new Impl(std::move(options))) {}
ControlPlane::~ControlPlane() = default;

void ControlPlane::listen() {
  impl_->link.listen();
  impl_->api.listen();
}

int ControlPlane::api_port() const { return impl_->api.port(); }
int ControlPlane::link_port() const { return impl_->link.port(); }

void ControlPlane::run() {
  const auto changed = impl_->changes.on_change([this](int64_t) { impl_->controller->wake(); });
  std::thread controller([this] { impl_->controller->run(); });
  std::thread link([this] { impl_->link.run(); });
  impl_->api.run();
  impl_->controller->stop();
  controller.join();
  impl_->prober.stop();
  impl_->link.stop();
  link.join();
}

void ControlPlane::drain(std::chrono::milliseconds grace) { impl_->api.drain(grace); }

void ControlPlane::stop_listening() {
  impl_->api.stop_listening();
  impl_->link.stop_listening();
}

}  // namespace neutrino::cloud
