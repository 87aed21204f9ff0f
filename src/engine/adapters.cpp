#include "engine/adapters.h"

#include <algorithm>
#include <ctime>

#include "base/adapter_limits.h"
#include "base/error.h"
#include "base/log.h"
#include "weights/adapter_updates.h"

namespace neutrino::engine {
namespace {

AdapterOptions with_defaults(AdapterOptions options) {
  const auto fill = [](int64_t& value, int64_t fallback) { value = value > 0 ? value : fallback; };
  fill(options.count_max, limits::kAdapters);
  fill(options.rank_max, limits::kAdapterRank);
  fill(options.bytes_max, limits::kAdapterBytes);
  return options;
}

void check_name(const std::string& name) {
  const auto plain = [](char c) { return c > ' ' && c < 0x7F && c != '"' && c != '\\'; };
  if (name.empty() || std::ssize(name) > limits::kAdapterNameBytes || !std::ranges::all_of(name, plain))
    throw make_error(ErrorCode::invalid_argument,
                     "an adapter's name must be 1 to {} visible ASCII characters without quotes, got {}",
                     limits::kAdapterNameBytes, name.size())
        .with_param("lora_name");
}

std::string file_name(const std::filesystem::path& path) {
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

LoadedAdapter::LoadedAdapter(std::unique_ptr<compute::Adapter> in_backend, AdapterBytes total)
    : weights(std::move(in_backend)), total_(std::move(total)) {
  bytes = weights->bytes();
  rank = weights->rank();
  *total_ += bytes;
}

LoadedAdapter::~LoadedAdapter() { *total_ -= bytes; }

Adapters::Adapters(const weights::WeightFile& base, compute::Backend& backend, const AdapterOptions& options,
                   Metrics& metrics)
    : base_(base),
      backend_(backend),
      options_(with_defaults(options)),
      bytes_(std::make_shared<std::atomic<int64_t>>(0)),
      loaded_(metrics.gauge("neutrino_adapters", "Adapters that are served by name")),
      memory_(metrics.gauge("neutrino_adapter_bytes",
                            "Memory of all adapters, those of running requests included")) {}

LoadedAdapterPtr Adapters::load(const std::string& name, const std::filesystem::path& path,
                                chat::IfLoaded if_loaded) {
  check_name(name);
  const std::lock_guard one_at_a_time(loading_);
  check_room(name, if_loaded);
  LoadedAdapterPtr adapter = read(name, path);
  LoadedAdapterPtr replaced;  // destroyed when nothing is locked
  {
    const std::lock_guard lock(mutex_);
    replaced = std::exchange(by_name_[name], adapter);
  }
  spdlog::info("adapter loaded name={} rank={} parameters={} bytes={} digest={:.16}", name, adapter->rank,
               adapter->parameters, adapter->bytes, adapter->digest);
  show();
  return adapter;
}

void Adapters::check_room(const std::string& name, chat::IfLoaded if_loaded) const {
  const std::lock_guard lock(mutex_);
  if (by_name_.contains(name)) {
    if (if_loaded == chat::IfLoaded::replace) return;
    throw make_error(ErrorCode::already_exists,
                     "an adapter \"{}\" is loaded already; unload it first, or set load_inplace", name)
        .with_reason("adapter_exists")
        .with_param("lora_name");
  }
  if (std::ssize(by_name_) >= options_.count_max)
    throw make_error(ErrorCode::failed_precondition,
                     "there are {} adapters already, and no more than {} are allowed (--max-loras)",
                     by_name_.size(), options_.count_max)
        .with_reason("adapter_limit");
}

LoadedAdapterPtr Adapters::read(const std::string& name, const std::filesystem::path& path) const {
  const int64_t room = options_.bytes_max - *bytes_;
  const auto no_room = [&] {
    return make_error(ErrorCode::failed_precondition,
                      "the adapters take {} of {} bytes (--lora-memory), which leaves too little for \"{}\"",
                      bytes_->load(), options_.bytes_max, name)
        .with_reason("adapter_limit");
  };
  if (room <= 0) throw no_room();
  // As float32, which is twice what integer arithmetic keeps.
  const int64_t expansion = backend_.arithmetic() == compute::Arithmetic::integer ? 2 : 1;
  const weights::AdapterUpdates updates = weights::read_adapter_updates(
      base_, path, {.rank_max = options_.rank_max, .bytes_max = room * expansion});
  std::vector<compute::LowRankUpdate> views;
  for (const weights::AdapterUpdate& update : updates.list) views.push_back(update.view());
  auto in_backend = backend_.load_adapter(views);
  if (in_backend->bytes() > room) throw no_room();
  auto adapter = std::make_shared<LoadedAdapter>(std::move(in_backend), bytes_);
  adapter->name = name;
  adapter->file = file_name(path);
  adapter->digest = to_hex(updates.digest);
  adapter->parameters = updates.parameters;
  adapter->created_unix = std::time(nullptr);
  return adapter;
}

void Adapters::unload(std::string_view name) {
  LoadedAdapterPtr gone;  // destroyed when nothing is locked
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_name_.find(name);
    if (found == by_name_.end())
      throw make_error(ErrorCode::not_found, "there is no adapter \"{:.100}\"", name)
          .with_reason("model_not_found")
          .with_param("lora_name");
    gone = std::move(found->second);
    by_name_.erase(found);
  }
  spdlog::info("adapter unloaded name={} still_used={}", gone->name, gone.use_count() > 1);
  gone.reset();
  show();
}

LoadedAdapterPtr Adapters::find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::vector<LoadedAdapterPtr> Adapters::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<LoadedAdapterPtr> all;
  for (const auto& [name, adapter] : by_name_) all.push_back(adapter);
  return all;
}

void Adapters::show() const {
  loaded_.Set(static_cast<double>(list().size()));
  memory_.Set(static_cast<double>(bytes()));
}

}  // namespace neutrino::engine
