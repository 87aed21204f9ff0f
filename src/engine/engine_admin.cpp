// What an operator asks of the engine between two steps: calls on its thread, sleep, prefixes in and out.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "engine/engine.h"

namespace neutrino::engine {

using chat::SleepState;

void Engine::call(std::function<void()> work) {
  std::packaged_task<void()> task(std::move(work));
  std::future<void> done = task.get_future();
  {
    const std::lock_guard lock(calls_mutex_);
    if (dead_ || stopping_)
      throw Error(ErrorCode::unavailable, "the engine has ended").with_reason("engine_dead");
    calls_.push_back(std::move(task));
    has_calls_ = true;
  }
  mailbox_.wake();
  try {
    done.get();
  } catch (const std::future_error&) {  // the engine ended before it came to it
    throw Error(ErrorCode::unavailable, "the engine has ended").with_reason("engine_dead");
  }
}

// What a call throws is its caller's.
void Engine::run_calls() {
  if (!has_calls_) return;
  std::vector<std::packaged_task<void()>> calls;
  {
    const std::lock_guard lock(calls_mutex_);
    calls.swap(calls_);
    has_calls_ = false;
  }
  for (auto& task : calls) task();
}

void Engine::drop_calls() {
  const std::lock_guard lock(calls_mutex_);
  calls_.clear();  // whoever waits for one is told
}

void Engine::check_awake() const {
  if (sleep_state_ != SleepState::awake)
    throw Error(ErrorCode::unavailable, "the model is asleep; POST /wake_up wakes it")
        .with_reason("sleeping");
}

compute::PagedKvCache& Engine::paged_cache() {
  auto* cache = dynamic_cast<compute::PagedKvCache*>(cache_.get());
  if (!cache) throw make_error(ErrorCode::unimplemented, "this backend's KV cache cannot be looked into");
  return *cache;
}

void Engine::fall_asleep() {
  SleepState awake = SleepState::awake;
  sleep_state_.compare_exchange_strong(awake, SleepState::falling_asleep);
}

int64_t Engine::sleep() {
  int64_t released = 0;
  call([&] {
    accept_new_sequences();
    if (sleep_state_ == SleepState::awake)
      throw Error(ErrorCode::failed_precondition, "the model was woken up before it slept");
    const size_t busy = scheduler_.running().size() + scheduler_.waiting().size();
    if (busy > 0) throw make_error(ErrorCode::failed_precondition, "{} sequences have not ended yet", busy);
    for (int32_t block = 0; states_.keeps_snapshots() && block < options_.kv_blocks; ++block)
      states_.drop_snapshot(block);
    blocks_.forget_cached();
    released = paged_cache().release_pages();
    sleep_state_ = SleepState::asleep;
  });
  return released;
}

void Engine::wake_up() { sleep_state_ = SleepState::awake; }

PrefixFile Engine::copy_prefix(const std::vector<int32_t>& tokens, const std::string& cache_salt) {
  PrefixFile prefix{.fingerprint = options_.fingerprint};
  call([&] {
    check_movable();
    BlockManager& pool = blocks_.only_pool();
    Sha256 hash;
    Sha256Digest name = prefix_root(cache_salt, options_.fingerprint, "");
    const auto size = static_cast<size_t>(compute::kBlockPositions);
    for (size_t first = 0; first + size <= tokens.size(); first += size) {
      const auto part =
          std::span(tokens).subspan(first).first<static_cast<size_t>(compute::kBlockPositions)>();
      name = extend_prefix(hash, name, part);
      const auto block = pool.holder(name);
      if (!block) break;
      const std::span<const std::byte> data = paged_cache().block(0, *block);
      prefix.bytes_per_block = std::ssize(data);
      prefix.tokens.insert(prefix.tokens.end(), part.begin(), part.end());
      prefix.data.insert(prefix.data.end(), data.begin(), data.end());
    }
  });
  if (prefix.tokens.empty())
    throw Error(ErrorCode::failed_precondition, "no whole block of this prefix is in the cache");
  return prefix;
}

// Only keys and values of all positions can be moved: what windows and states hold depends on where a sequence stands.
void Engine::check_movable() const {
  if (options_.prefix_cache == PrefixCache::off)
    throw make_error(ErrorCode::failed_precondition, "prefixes need --prefix-cache on");
  if (model_.config().recurrent || blocks_.groups() > 1)
    throw make_error(ErrorCode::unimplemented,
                     "prefixes of models with windows or recurrent states are not kept");
}

int64_t Engine::adopt_prefix(const PrefixFile& prefix, const std::string& cache_salt) {
  int64_t tokens = 0;
  call([&] {
    check_movable();
    check_awake();
    if (prefix.fingerprint != options_.fingerprint ||
        prefix.bytes_per_block != std::ssize(paged_cache().block(0, 0)))
      throw Error(ErrorCode::failed_precondition,
                  "the prefix is of another model, version or kind of KV cache");
    BlockManager& pool = blocks_.only_pool();
    Sha256 hash;
    Sha256Digest name = prefix_root(cache_salt, options_.fingerprint, "");
    std::vector<int32_t> held;  // until all are there, so that none of them makes room for another
    for (int64_t i = 0; i < prefix.blocks(); ++i) {
      name = extend_prefix(hash, name, prefix.tokens_of(i));
      std::optional<int32_t> block = pool.find(name);
      if (!block) {
        block = pool.allocate();
        if (!block) break;
        std::ranges::copy(prefix.data_of(i), paged_cache().block(0, *block).begin());
        pool.set_name(*block, name);
      }
      held.push_back(*block);
      tokens += compute::kBlockPositions;
    }
    for (auto block = held.rbegin(); block != held.rend(); ++block) pool.release(*block);
  });
  return tokens;
}

}  // namespace neutrino::engine
