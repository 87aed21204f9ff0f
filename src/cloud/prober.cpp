#include "cloud/prober.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <mutex>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "net/client.h"

namespace neutrino::cloud {
namespace asio = boost::asio;
namespace {

int64_t now_ms() { return SystemClock().now_ns() / 1'000'000; }

struct Answer {
  ProbeResult result = ProbeResult::failure;
  std::string detail;
};

}  // namespace

// One replica that is asked; lives in its coroutine.
struct Watch {
  Watch(const asio::any_io_executor& executor, ProbeTarget t)
      : target(std::move(t)), tracker(target.plan, now_ms()), timer(executor) {}
  ProbeTarget target;
  ProbeTracker tracker;
  asio::steady_timer timer;
  net::ClientExchange* exchange = nullptr;  // under way
  bool ended = false;

  void end() {
    ended = true;
    timer.cancel();
    if (exchange) exchange->cancel();
  }
};

struct Prober::Impl : std::enable_shared_from_this<Prober::Impl> {
  Impl(asio::any_io_executor e, std::function<void()> changed)
      : executor(e), client(e, {.idle_per_address = 0}), on_change(std::move(changed)) {}

  void set_targets(std::vector<ProbeTarget> targets);
  void begin(ProbeTarget target);
  void publish(const Watch& watch);
  void stop();
  asio::awaitable<void> ask_on(std::shared_ptr<Watch> watch);
  asio::awaitable<Answer> ask(Watch& watch, ProbeKind kind);

  asio::any_io_executor executor;
  net::HttpClient client;
  std::function<void()> on_change;
  std::map<std::string, std::shared_ptr<Watch>> watches;  // executor's thread
  bool stopped = false;
  std::mutex mutex;
  std::map<std::string, ProbedReplica> verdicts;  // under the mutex
};

Prober::Prober(asio::any_io_executor executor, std::function<void()> on_change)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(on_change))) {}

Prober::~Prober() { impl_->stop(); }

void Prober::set_targets(std::vector<ProbeTarget> targets) {
  asio::post(impl_->executor, [impl = impl_, targets = std::move(targets)]() mutable {
    impl->set_targets(std::move(targets));
  });
}

void Prober::stop() {
  asio::post(impl_->executor, [impl = impl_] { impl->stop(); });
}

std::map<std::string, ProbedReplica> Prober::verdicts() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->verdicts;
}

void Prober::Impl::set_targets(std::vector<ProbeTarget> targets) {
  if (stopped) return;
  std::map<std::string, std::shared_ptr<Watch>> before = std::exchange(watches, {});
  std::map<std::string, ProbedReplica> kept;
  for (ProbeTarget& target : targets) {
    const auto found = before.find(target.id);
    const bool same = found != before.end() && found->second->target.generation == target.generation &&
                      found->second->target.host == target.host && found->second->target.port == target.port;
    if (!same) {
      begin(std::move(target));
      continue;
    }
    watches[target.id] = found->second;
    before.erase(found);
  }
  for (const auto& [id, watch] : before) watch->end();
  for (const auto& [id, watch] : watches)
    kept[id] = {.generation = watch->target.generation, .verdict = watch->tracker.verdict()};
  const std::lock_guard lock(mutex);
  verdicts = std::move(kept);
}

void Prober::Impl::begin(ProbeTarget target) {
  auto watch = std::make_shared<Watch>(executor, std::move(target));
  watches[watch->target.id] = watch;
  asio::co_spawn(executor, ask_on(std::move(watch)),
                 [self = shared_from_this()](const std::exception_ptr&) {});
}

void Prober::Impl::publish(const Watch& watch) {
  {
    const std::lock_guard lock(mutex);
    verdicts[watch.target.id] = {.generation = watch.target.generation, .verdict = watch.tracker.verdict()};
  }
  if (on_change) on_change();
}

void Prober::Impl::stop() {
  if (std::exchange(stopped, true)) return;
  on_change = {};
  for (const auto& [id, watch] : watches) watch->end();
  watches.clear();
  client.stop();
}

asio::awaitable<void> Prober::Impl::ask_on(std::shared_ptr<Watch> watch) {
  while (!watch->ended) {
    const auto question = watch->tracker.next();
    if (!question) co_return;
    const int64_t wait_ms = question->at_ms - now_ms();
    if (wait_ms > 0) {
      watch->timer.expires_after(milliseconds(wait_ms));
      co_await watch->timer.async_wait(asio::as_tuple(asio::use_awaitable));
      if (watch->ended) co_return;
    }
    const int64_t asked_ms = now_ms();
    const Answer answer = co_await ask(*watch, question->kind);
    if (watch->ended) co_return;
    const bool changed =
        watch->tracker.take(question->kind, asked_ms, now_ms(), answer.result, answer.detail);
    if (changed) publish(*watch);
  }
}

asio::awaitable<Answer> Prober::Impl::ask(Watch& watch, ProbeKind kind) {
  const ProbeTiming& timing = watch.tracker.timing(kind);
  const milliseconds timeout(timing.timeout_ms);
  net::ClientExchange exchange(
      client, {.host = watch.target.host, .port = watch.target.port},
      {.connect = timeout, .send_stall = timeout, .first_byte = timeout, .idle = timeout});
  watch.exchange = &exchange;
  const net::ClientFault fault = co_await exchange.send({.target = timing.path});
  watch.exchange = nullptr;
  if (fault != net::ClientFault::none)
    co_return Answer{.detail = fmt::format("GET {}: {}", timing.path, net::client_fault_name(fault))};
  const bool good = exchange.status() >= 200 && exchange.status() < 400;
  co_return Answer{.result = good ? ProbeResult::success : ProbeResult::failure,
                   .detail = fmt::format("GET {}: status {}", timing.path, exchange.status())};
}

}  // namespace neutrino::cloud
