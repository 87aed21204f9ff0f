// From a name to a model that answers: what `serve`, `run`, `chat`, `bench`, `eval` and `tokenize` have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/adapter_limits.h"
#include "base/limits.h"
#include "base/metrics.h"
#include "chat/chat_model.h"
#include "compute/kv_type.h"
#include "engine/speculation.h"
#include "weights/store.h"

namespace CLI {
class App;
}

namespace neutrino::cli {

// A name in the store, or a path. Throws Error.
weights::OpenModel open_model(const std::string& name_or_path);

struct EngineConfig {
  int64_t threads = 0;  // 0: one per core
  int64_t max_sequences = limits::kSequencesDefault;
  int64_t context = 0;  // 0: what the model was trained for
  int64_t batch_tokens = limits::kBatchTokensDefault;
  std::string kv_memory;  // "512M", "2G"; empty: four contexts, but at most a quarter of the free memory
  std::string kv_type = "bf16";
  std::string prefix_cache = "on";
  std::string weight_cache = "on";
  std::string speculate = "off";  // "prompt-lookup", "prompt-lookup:8"
  std::string draft_model;        // a smaller model that guesses; empty: none
  bool exact = false;
  std::string tool_call_parser, reasoning_parser;  // empty: as the model's chat template shows
  std::string served_name;                         // label of the metrics; empty: the model's own name
  std::vector<std::string> loras;                  // NAME=PATH each
  std::string lora_dir;                            // a folder of adapters to serve; empty: none
  int64_t lora_refresh_seconds = limits::kAdapterRefreshSeconds;  // 0: the folder is read once
  int64_t max_loras = limits::kAdapters, max_lora_rank = limits::kAdapterRank;
  std::string lora_memory = "1G";
  std::string max_queue_wait = "0";  // seconds, or "auto": by what is measured
};
void add_engine_options(CLI::App& app, EngineConfig& config);
void add_adapter_options(CLI::App& app, EngineConfig& config);  // of the same

// A model with a running engine behind the waist. Stops the engine when destroyed.
class RunningModel {
 public:
  virtual ~RunningModel() = default;
  virtual chat::ChatModel& chat_model() = 0;
  virtual Metrics& metrics() = 0;
};
std::unique_ptr<RunningModel> start_model(const std::string& name_or_path, const EngineConfig& config);

// "bf16", "f16", "q8_0": the values of --kv-type. Throws Error.
std::vector<std::string> kv_type_names();
compute::KvType parse_kv_type(std::string_view name);

// "off", "prompt-lookup", "prompt-lookup:8", "draft-model", "draft-model:4": the values of --speculate. Throws Error.
engine::SpeculationOptions parse_speculation(std::string_view text);

// "4096", "64K", "512M", "2G" (powers of 1024) in bytes. Throws Error naming `what`.
int64_t parse_size(std::string_view what, std::string_view text);

}  // namespace neutrino::cli
