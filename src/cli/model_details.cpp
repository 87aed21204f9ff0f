#include "cli/model_details.h"

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "cli/load.h"
#include "compute/sizing_backend.h"
#include "engine/kv_plan.h"
#include "models/model.h"
#include "weights/lineage.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kOutputRows = 64;  // of a step, for its scratch
constexpr int64_t kProgramBytes = int64_t{48}
                                  << 20;  // the program, its libraries, vocabulary and connections

// {"q4_1": {"tensors": 211, "bytes": ...}, ...}, the largest first.
json::object type_mix(const weights::WeightFile& file) {
  std::map<std::string_view, std::pair<int64_t, int64_t>> types;
  for (const weights::TensorEntry& tensor : file.tensors()) {
    auto& [count, bytes] = types[compute::dtype_info(tensor.dtype).name];
    ++count, bytes += tensor.bytes;
  }
  std::vector<std::pair<std::string_view, std::pair<int64_t, int64_t>>> order(types.begin(), types.end());
  std::ranges::sort(order, [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
  json::object mix;
  for (const auto& [name, sums] : order) mix[name] = {{"tensors", sums.first}, {"bytes", sums.second}};
  return mix;
}

json::object memory(const weights::WeightFile& file, const DetailOptions& options) {
  const auto arithmetic = options.exact ? compute::Arithmetic::float32 : compute::Arithmetic::integer;
  const auto backend = compute::make_sizing_backend(arithmetic);
  const auto model = models::load_model(file, *backend, options.context);
  const engine::KvPlan plan(*model, parse_kv_type(options.kv_type), arithmetic,
                            {model->context(), options.batch, limits::kBatchTokensDefault});
  const int64_t positions = ceil_div(model->context(), compute::kBlockPositions) * options.batch;
  const int64_t kv = plan.bytes(positions);
  const int64_t state =
      model->config().recurrent ? options.batch * compute::state_slot_bytes(model->kv_cache_shape(1, 1)) : 0;
  const int64_t scratch = 2 * model->scratch_bytes(limits::kBatchTokensDefault, kOutputRows);
  // Rows of the embedding are read where they stand in the file.
  const weights::TensorEntry* embedding = file.find("token_embd.weight");
  const int64_t program = kProgramBytes + (embedding ? embedding->bytes : 0);
  json::object memory{{"context", model->context()},
                      {"batch", options.batch},
                      {"weights_bytes", backend->weight_bytes()},
                      {"kv_bytes", kv},
                      {"state_bytes", state},
                      {"scratch_bytes", scratch},
                      {"program_bytes", program},
                      {"total_bytes", backend->weight_bytes() + kv + state + scratch + program}};
  if (const engine::KvGroup& last = plan.groups().back(); last.window > 0) {
    memory["window"] = last.window;
    memory["window_bytes"] = plan.blocks(plan.groups().size() - 1, positions) * last.bytes_per_block;
  }
  return memory;
}

std::string bytes_text(const json::object& object, std::string_view name) {
  return size_text(object.at(name).to_number<int64_t>());
}

void print_memory(const json::object& memory) {
  fmt::print("memory         {}: {} of weights, {} of keys and values for {} x {} tokens",
             bytes_text(memory, "total_bytes"), bytes_text(memory, "weights_bytes"),
             bytes_text(memory, "kv_bytes"), memory.at("batch").to_number<int64_t>(),
             memory.at("context").to_number<int64_t>());
  if (memory.contains("window"))
    fmt::print(" ({} of them for windows of {})", bytes_text(memory, "window_bytes"),
               memory.at("window").to_number<int64_t>());
  if (memory.at("state_bytes").to_number<int64_t>() > 0)
    fmt::print(", {} of recurrent state", bytes_text(memory, "state_bytes"));
  fmt::print(", {} of scratch, {} of program, vocabulary and embedding\n",
             bytes_text(memory, "scratch_bytes"), bytes_text(memory, "program_bytes"));
}

void print_lineage(const json::array& steps) {
  for (const json::value& value : steps) {
    const json::object& step = value.as_object();
    std::string parents;
    for (const json::value& parent : step.at("parents").as_array())
      parents += fmt::format("{}{} (sha256 {:.12}...)", parents.empty() ? "" : ", ",
                             std::string_view(parent.at("name").as_string()),
                             std::string_view(parent.at("sha256").as_string()));
    fmt::print("made by        {} of {}, by {}\n", std::string_view(step.at("operation").as_string()),
               parents, std::string_view(step.at("tool").as_string()));
  }
}

}  // namespace

json::object model_details(const weights::WeightFile& file, const DetailOptions& options) {
  json::object details{
      {"format", file.format()}, {"tensors", file.tensors().size()}, {"types", type_mix(file)}};
  try {
    details["max_context"] = models::read_model_config(file).max_position_embeddings;
    details["memory"] = memory(file, options);
  } catch (const Error& error) {
    details["not_runnable"] = error.message();
  }
  json::array steps;
  for (const json::value& step : weights::read_lineage(file)) steps.push_back(step);
  if (!steps.empty()) details["lineage"] = std::move(steps);
  return details;
}

void print_details(const json::object& details) {
  std::string mix;
  for (const auto& [name, sums] : details.at("types").as_object())
    mix += fmt::format("{}{} {} ({})", mix.empty() ? "" : ", ", sums.at("tensors").to_number<int64_t>(),
                       std::string_view(name), size_text(sums.at("bytes").to_number<int64_t>()));
  fmt::print("format         {}\n", std::string_view(details.at("format").as_string()));
  fmt::print("tensors        {}: {}\n", details.at("tensors").to_number<int64_t>(), mix);
  if (const json::value* context = details.if_contains("max_context"))
    fmt::print("context        {} tokens\n", context->to_number<int64_t>());
  if (const json::value* memory = details.if_contains("memory")) print_memory(memory->as_object());
  if (const json::value* reason = details.if_contains("not_runnable"))
    fmt::print("not runnable   {}\n", std::string_view(reason->as_string()));
  if (const json::value* lineage = details.if_contains("lineage")) print_lineage(lineage->as_array());
}

}  // namespace neutrino::cli
