#include "base/fault.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "base/error.h"

namespace neutrino {
namespace {

constexpr std::string_view kActions[] = {"throw", "error", "kill", "stall", "hang", "slow"};

struct Fault {
  std::string action;
  int64_t at = 0;
  std::atomic<int64_t> arrivals{0};
};
using Faults = std::map<std::string, std::unique_ptr<Fault>, std::less<>>;

Error malformed(std::string_view text) {
  return make_error(
      ErrorCode::invalid_argument,
      "NEUTRINO_FAULT must be a comma-separated list of point:throw|error|kill|stall|hang|slow@N with N "
      ">= 1, got \"{}\"",
      text);
}

Faults parse_faults(std::string_view text) {
  Faults faults;
  while (!text.empty()) {
    const auto item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const auto colon = item.find(':'), at = item.find('@');
    if (colon == item.npos || at == item.npos || at < colon) throw malformed(item);
    auto fault = std::make_unique<Fault>();
    fault->action = item.substr(colon + 1, at - colon - 1);
    const auto number = item.substr(at + 1);
    const auto [end, failure] = std::from_chars(number.data(), number.data() + number.size(), fault->at);
    if (failure != std::errc{} || end != number.data() + number.size() || fault->at < 1)
      throw malformed(item);
    if (std::ranges::find(kActions, fault->action) == std::end(kActions)) throw malformed(item);
    faults.emplace(std::string(item.substr(0, colon)), std::move(fault));
  }
  return faults;
}

}  // namespace

void check_fault_environment() {
  const char* text = std::getenv("NEUTRINO_FAULT");
  if (text == nullptr || *text == 0) return;
  if (!kFaultsCompiled)
    throw Error(ErrorCode::invalid_argument,
                "NEUTRINO_FAULT is set, but this is a release build without fault points: use the debug or "
                "tsan preset");
  parse_faults(text);
}

#ifdef NEUTRINO_FAULTS
namespace {

struct Armed {
  std::mutex mutex;  // guards the two below
  std::shared_ptr<Faults> faults;
  int64_t generation = 0;  // of `faults`: what hangs waits for the next
  std::condition_variable changed;
};

Armed& armed() {
  static Armed* const all = [] {  // never destroyed: a thread may hang in it until the process ends
    const char* text = std::getenv("NEUTRINO_FAULT");
    auto* made = new Armed;
    made->faults = std::make_shared<Faults>(text ? parse_faults(text) : Faults{});
    return made;
  }();
  return *all;
}

void hang() {
  std::unique_lock lock(armed().mutex);
  armed().changed.wait(lock, [generation = armed().generation] { return armed().generation != generation; });
}

}  // namespace

void arm_faults(std::string_view text) {
  auto faults = std::make_shared<Faults>(parse_faults(text));
  const std::lock_guard lock(armed().mutex);
  armed().faults = std::move(faults);
  ++armed().generation;
  armed().changed.notify_all();
}

void fault_point(std::string_view name) {
  std::shared_ptr<Faults> faults;
  {
    const std::lock_guard lock(armed().mutex);
    faults = armed().faults;
  }
  const auto found = faults->find(name);
  if (found == faults->end()) return;
  const std::string& action = found->second->action;
  const int64_t arrival = ++found->second->arrivals;
  if (action == "slow" && arrival >= found->second->at) ::usleep(200'000);
  if (arrival != found->second->at) return;
  if (action == "throw") throw std::runtime_error("injected fault at " + std::string(name));
  if (action == "error") throw make_error(ErrorCode::internal, "injected error at {}", name);
  if (action == "kill") ::kill(::getpid(), SIGKILL);
  if (action == "stall") ::sleep(10);
  if (action == "hang") hang();
}
#endif

}  // namespace neutrino
