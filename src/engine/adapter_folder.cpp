#include "engine/adapter_folder.h"

#include <algorithm>
#include <vector>

#include "base/adapter_limits.h"
#include "base/error.h"
#include "base/log.h"

namespace neutrino::engine {
namespace {

namespace fs = std::filesystem;

std::string file_state(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  const auto time = fs::last_write_time(path, error);
  return error ? "gone" : fmt::format("{} {}", size, time.time_since_epoch().count());
}

// Of the two files that say what an adapter is; empty: this is none.
std::string adapter_state(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return path.extension() == ".gguf" ? file_state(path) : std::string();
  const fs::path config = path / "adapter_config.json";
  if (!fs::is_regular_file(config, error)) return {};
  return file_state(config) + " " + file_state(path / "adapter_model.safetensors");
}

struct Found {
  std::string name, state;
  fs::path path;
};

std::vector<Found> adapters_in(const fs::path& folder) {
  std::vector<Found> all;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string file = path.filename().string();
    if (file.starts_with('.')) continue;
    const std::string state = adapter_state(path);
    if (state.empty()) continue;
    all.push_back({fs::is_directory(path, error) ? file : path.stem().string(), state, path});
    if (std::ssize(all) >= limits::kAdaptersMax) break;
  }
  if (error)
    throw make_error(ErrorCode::unavailable, "the folder of adapters {} cannot be read: {}", folder.string(),
                     error.message());
  std::ranges::sort(all, {}, &Found::name);
  return all;
}

}  // namespace

AdapterFolder::AdapterFolder(chat::ChatModel& model, fs::path folder)
    : model_(model), folder_(std::move(folder)) {
  std::error_code error;
  if (!fs::is_directory(folder_, error))
    throw make_error(ErrorCode::invalid_argument, "--lora-dir must be a folder, got {}", folder_.string());
}

AdapterFolder::~AdapterFolder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void AdapterFolder::refresh() {
  const std::lock_guard lock(refreshing_);
  std::vector<Found> found;
  try {
    found = adapters_in(folder_);
  } catch (const Error& error) {  // a volume that is away for a moment takes nothing with it
    spdlog::warn("{}", error.message());
    return;
  }
  std::vector<std::string> gone;
  for (const auto& [name, entry] : entries_)
    if (std::ranges::find(found, name, &Found::name) == found.end()) gone.push_back(name);
  for (const std::string& name : gone) unload(name);
  for (const Found& adapter : found)
    if (const auto known = entries_.find(adapter.name);
        known == entries_.end() || known->second.state != adapter.state)
      load(adapter.name, adapter.path, adapter.state);
}

void AdapterFolder::load(const std::string& name, const fs::path& path, const std::string& state) {
  Entry& entry = entries_[name];
  entry.state = state;
  try {
    model_.load_adapter(name, path, entry.loaded ? chat::IfLoaded::replace : chat::IfLoaded::refuse);
    entry.loaded = true;
  } catch (const std::exception& error) {  // what was served under the name before goes on
    spdlog::warn("adapter not loaded name={} error=\"{}\"", name, error.what());
  }
}

void AdapterFolder::unload(const std::string& name) {
  const bool loaded = entries_.at(name).loaded;
  entries_.erase(name);
  if (!loaded) return;
  try {
    model_.unload_adapter(name);
  } catch (const Error&) {  // somebody else has unloaded it
  }
}

void AdapterFolder::start(std::chrono::seconds interval) {
  check(!thread_.joinable(), "a folder of adapters is started once");
  thread_ = std::thread([this, interval] {
    std::unique_lock lock(mutex_);
    while (!stop_.wait_for(lock, interval, [this] { return stopping_; })) {
      lock.unlock();
      refresh();
      lock.lock();
    }
  });
}

}  // namespace neutrino::engine
