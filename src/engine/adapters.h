// The adapters that are served beside a model's weights: loaded, found by name and unloaded on any thread, while the engine runs.
//
// A sequence holds its adapter by a shared pointer, so unloading one, or loading other contents under its name, touches no
// request that has been submitted. Keys and values of different contents never meet: the adapter's digest is part of the name of
// every KV block.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "chat/adapter.h"
#include "compute/backend.h"
#include "weights/weight_file.h"

namespace neutrino::engine {

struct AdapterOptions {
  int64_t count_max = 0;  // 0 here and below: the default of base/limits.h
  int64_t rank_max = 0;
  int64_t bytes_max = 0;  // of all together, those included that only requests still hold
};

// Bytes of all adapters that exist, whoever holds them.
using AdapterBytes = std::shared_ptr<std::atomic<int64_t>>;

class LoadedAdapter final : public chat::Adapter {
 public:
  // Counts itself in `total`.
  LoadedAdapter(std::unique_ptr<compute::Adapter> in_backend, AdapterBytes total);
  ~LoadedAdapter() override;

  const std::unique_ptr<compute::Adapter> weights;

 private:
  const AdapterBytes total_;
};
using LoadedAdapterPtr = std::shared_ptr<const LoadedAdapter>;

class Adapters {
 public:
  // All references outlive this object and every adapter. The model's weights are loaded.
  Adapters(const weights::WeightFile& base, compute::Backend& backend, const AdapterOptions& options,
           Metrics& metrics);

  // Reads a PEFT folder or a GGUF adapter. Throws Error: for the name, for what the files hold, for what is over a limit
  // (reason "adapter_limit"), or {already_exists} for a name that is taken.
  LoadedAdapterPtr load(const std::string& name, const std::filesystem::path& path, chat::IfLoaded if_loaded);
  void unload(std::string_view name);                  // throws Error{not_found, reason "model_not_found"}
  LoadedAdapterPtr find(std::string_view name) const;  // null: no such adapter
  std::vector<LoadedAdapterPtr> list() const;          // by name
  const AdapterOptions& options() const { return options_; }  // with the defaults filled in
  int64_t bytes() const { return *bytes_; }

 private:
  LoadedAdapterPtr read(const std::string& name, const std::filesystem::path& path) const;
  void check_room(const std::string& name, chat::IfLoaded if_loaded) const;
  void show() const;

  const weights::WeightFile& base_;
  compute::Backend& backend_;
  const AdapterOptions options_;
  const AdapterBytes bytes_;
  Gauge& loaded_;
  Gauge& memory_;
  std::mutex loading_;        // one at a time: files are large
  mutable std::mutex mutex_;  // guards the one below
  std::map<std::string, LoadedAdapterPtr, std::less<>> by_name_;
};

}  // namespace neutrino::engine
