#include "weights/adapter_source.h"

#include <algorithm>
#include <cmath>

#include "base/adapter_limits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "weights/checkpoint_form.h"
#include "weights/checkpoint_source.h"
#include "weights/derived_file.h"
#include "weights/reader.h"
#include "weights/safetensors.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;

using Changes = std::map<std::string, AdapterChange>;

constexpr std::string_view kPrefix = "base_model.model.";

// Takes (rows, columns) float32 values from what may still be read.
void take_bytes(std::string_view tensor, int64_t rows, int64_t columns, int64_t& bytes_left) {
  const auto bytes = checked_mul(checked_mul(rows, columns).value_or(-1), int64_t{4});
  if (!bytes || *bytes < 0 || *bytes > bytes_left)
    throw refuse("adapter_size", "adapter: with tensor {} of ({}, {}) it takes more memory than is allowed",
                 in_quotes(tensor), rows, columns);
  bytes_left -= *bytes;
}

void check_finite(std::string_view tensor, const std::vector<float>& values) {
  for (const float value : values)
    if (!std::isfinite(value))
      throw refuse("adapter_value", "adapter: tensor {} has a value that is not a finite number",
                   in_quotes(tensor));
}

AdapterMatrix read_matrix(const StTensor& tensor, int64_t& bytes_left) {
  const auto source = plain_source(tensor);
  if (const std::string wrong = source->unusable(); !wrong.empty())
    throw refuse("adapter_type", "adapter: tensor {} {}", in_quotes(tensor.name), wrong);
  if (tensor.shape.empty() || tensor.shape.size() > 2)
    throw refuse("adapter_shape", "adapter: tensor {} must have one or two dimensions, got {}",
                 in_quotes(tensor.name), tensor.shape.size());
  const int64_t rows = source->rows(), columns = source->columns();
  take_bytes(tensor.name, rows, columns, bytes_left);
  AdapterMatrix matrix{rows, columns, std::vector<float>(static_cast<size_t>(rows * columns))};
  const TensorData data = source->matrix(0);
  const int64_t stride = *compute::row_bytes(source->dtype(), columns);
  for (int64_t r = 0; r < rows; ++r)
    compute::dequantize_row(source->dtype(), data.data + r * stride, columns,
                            matrix.values.data() + r * columns);
  check_finite(tensor.name, matrix.values);
  return matrix;
}

// ---- PEFT: adapter_config.json

struct PeftConfig {
  double r = 8, alpha = 8;
  bool rslora = false, dora = false;
  std::vector<std::pair<std::string, double>> ranks, alphas;  // by a pattern on the module's path
};

std::vector<std::pair<std::string, double>> read_patterns(const json::object& config,
                                                          std::string_view field) {
  std::vector<std::pair<std::string, double>> patterns;
  const json::value* value = config.if_contains(field);
  if (!value || !value->is_object()) return patterns;
  for (const auto& [pattern, number] : value->get_object()) {
    if (!number.is_number())
      throw refuse("adapter_field", "adapter: {}: {} must be a number", field, in_quotes(pattern));
    patterns.emplace_back(pattern, number.to_number<double>());
  }
  return patterns;
}

bool flag(const json::object& config, std::string_view field) {
  const json::value* value = config.if_contains(field);
  return value && value->is_bool() && value->get_bool();
}

double positive(const json::object& config, std::string_view field) {
  const json::value* value = config.if_contains(field);
  if (!value || !value->is_number() || !(value->to_number<double>() > 0))
    throw refuse("adapter_field", "adapter: adapter_config.json: {} must be a number above 0", field);
  return value->to_number<double>();
}

bool is_neutral(const json::value& value) {
  return value.is_null() || (value.is_bool() && !value.get_bool()) ||
         (value.is_array() && value.get_array().empty()) || (value.is_object() && value.get_object().empty());
}

// What changes the meaning of the matrices, and what starts from a base that is no longer the model's own.
void refuse_variants(const json::object& config) {
  for (const char* field : {"fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora", "target_parameters",
                            "trainable_token_indices", "alora_invocation_tokens", "layer_replication",
                            "arrow_config", "kasa_config"})
    if (const json::value* value = config.if_contains(field); value && !is_neutral(*value))
      throw refuse("adapter_variant", "adapter: adapter_config.json: {} is not supported", field);
  if (const json::value* bias = config.if_contains("bias");
      bias && bias->is_string() && bias->get_string() != "none")
    throw refuse("adapter_variant", "adapter: adapter_config.json: bias must be \"none\", got {}",
                 in_quotes(bias->get_string()));
  const json::value* start = config.if_contains("init_lora_weights");
  if (!start || !start->is_string()) return;
  for (const char* known : {"gaussian", "eva", "orthogonal"})
    if (start->get_string() == known) return;
  throw refuse("adapter_variant",
               "adapter: adapter_config.json: init_lora_weights {} belongs to a changed base and is not "
               "supported; save the adapter as plain LoRA",
               in_quotes(start->get_string()));
}

PeftConfig read_peft_config(const fs::path& folder) {
  const json::value parsed =
      parse_json(read_file(folder / "adapter_config.json", limits::kAdapterConfigBytes));
  if (!parsed.is_object()) throw refuse("adapter_field", "adapter: adapter_config.json must be an object");
  const json::object& config = parsed.get_object();
  const json::value* type = config.if_contains("peft_type");
  if (!type || !type->is_string() || type->get_string() != "LORA")
    throw refuse("adapter_variant", "adapter: adapter_config.json: peft_type must be \"LORA\"");
  refuse_variants(config);
  return {.r = positive(config, "r"),
          .alpha = positive(config, "lora_alpha"),
          .rslora = flag(config, "use_rslora"),
          .dora = flag(config, "use_dora"),
          .ranks = read_patterns(config, "rank_pattern"),
          .alphas = read_patterns(config, "alpha_pattern")};
}

// PEFT matches a pattern, a regular expression, with the end of a module's path, at a dot. In practice it is that end itself;
// expressions proper are refused: they come from a file that nobody vouches for.
double by_pattern(const std::vector<std::pair<std::string, double>>& patterns, const std::string& module,
                  double otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (pattern.find_first_of("\\[](){}*+?|^$") != pattern.npos)
      throw refuse("adapter_pattern", "adapter: the pattern {} must be the end of a module's path",
                   in_quotes(pattern));
    if (module == pattern || module.ends_with("." + pattern)) return value;
  }
  return otherwise;
}

// ---- PEFT: adapter_model.safetensors

// "...q_proj.lora_A.weight": the module, and which part of its change this is.
struct PartName {
  std::string module, part;
};

PartName split_name(std::string name) {
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  // The text model of one that also sees: layouts know its modules as those of a model of its own.
  constexpr std::string_view kText = "language_model.";
  if (const size_t at = name.find(kText); at == 0 || (at != name.npos && name[at - 1] == '.'))
    name.erase(at, kText.size());
  for (const std::string_view part :
       {".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B", ".base_layer.weight",
        ".lora_magnitude_vector.weight", ".lora_magnitude_vector"})
    if (name.ends_with(part)) return {name.substr(0, name.size() - part.size()), std::string(part.substr(1))};
  return {name, {}};
}

AdapterMatrix transposed(const AdapterMatrix& matrix) {
  AdapterMatrix out{matrix.columns, matrix.rows, std::vector<float>(matrix.values.size())};
  for (int64_t r = 0; r < matrix.rows; ++r)
    for (int64_t c = 0; c < matrix.columns; ++c)
      out.values[c * matrix.rows + r] = matrix.values[r * matrix.columns + c];
  return out;
}

void take_part(Changes& changes, const PartName& name, AdapterMatrix matrix) {
  if (name.part.empty()) {
    changes[name.module].replaced = std::move(matrix);
    return;
  }
  AdapterChange& change = changes[name.module + ".weight"];
  if (name.part == "lora_A.weight") change.a = std::move(matrix);
  if (name.part == "lora_B.weight") change.b = std::move(matrix);
  if (name.part == "base_layer.weight") change.replaced = std::move(matrix);
  // An embedding's change is (B A)^T: its rows are tokens.
  if (name.part == "lora_embedding_A") change.b = transposed(matrix);
  if (name.part == "lora_embedding_B") change.a = transposed(matrix);
  if (name.part.starts_with("lora_magnitude")) change.magnitude = std::move(matrix.values);
}

Changes read_peft(const fs::path& folder, double scale, int64_t bytes_left) {
  const PeftConfig config = read_peft_config(folder);
  SafetensorsSet set;
  const std::string files[] = {"adapter_model.safetensors"};
  set.open(folder, files, Links::follow);
  Changes changes;
  for (const auto& [name, tensor] : set.tensors())
    take_part(changes, split_name(name), read_matrix(tensor, bytes_left));
  for (auto& [name, change] : changes) {
    const std::string module = name.substr(0, name.rfind('.'));
    const double rank = by_pattern(config.ranks, module, config.r);
    const double alpha = by_pattern(config.alphas, module, config.alpha);
    change.scale = scale * alpha / (config.rslora ? std::sqrt(rank) : rank);
    if (change.a && std::abs(static_cast<double>(change.a->rows) - rank) > 0.5)
      throw refuse("adapter_rank", "adapter: {} has rank {}, but adapter_config.json says {}",
                   in_quotes(name), change.a->rows, rank);
    if (config.dora && change.a && change.magnitude.empty())
      throw refuse("adapter_part", "adapter: {} has no lora_magnitude_vector, but use_dora is true",
                   in_quotes(name));
  }
  return changes;
}

// ---- GGUF

Changes read_gguf_adapter(const fs::path& path, double scale, int64_t bytes_left, std::string& architecture) {
  const auto file = open_weight_file(path);
  const Metadata& metadata = file->metadata();
  if (metadata.text("general.type").value_or("") != "adapter" ||
      metadata.text("adapter.type").value_or("") != "lora")
    throw refuse("adapter_variant",
                 "adapter: a GGUF adapter has general.type \"adapter\" and adapter.type \"lora\"");
  if (metadata.has("adapter.alora.invocation_tokens"))
    throw refuse("adapter_variant", "adapter: adapter.alora.invocation_tokens is not supported");
  architecture = metadata.text("general.architecture").value_or("");
  const double alpha = metadata.number("adapter.lora.alpha").value_or(0);
  Changes changes;
  for (const TensorEntry& tensor : file->tensors()) {
    const bool a = tensor.name.ends_with(".lora_a"), b = tensor.name.ends_with(".lora_b");
    if ((!a && !b) || tensor.shape.size() != 2)
      throw refuse("adapter_shape", "adapter: tensor {} must be a two-dimensional .lora_a or .lora_b",
                   in_quotes(tensor.name));
    take_bytes(tensor.name, tensor.shape[0], tensor.shape[1], bytes_left);
    AdapterMatrix matrix{tensor.shape[0], tensor.shape[1], read_values(*file, tensor)};
    check_finite(tensor.name, matrix.values);
    AdapterChange& change = changes[tensor.name.substr(0, tensor.name.size() - 7)];
    if (b) change.scale = alpha > 0 ? scale * alpha / static_cast<double>(tensor.shape[1]) : scale;
    (a ? change.a : change.b) = std::move(matrix);
  }
  return changes;
}

void check_change(const std::string& name, const AdapterChange& change) {
  if (change.replaced && !change.a && !change.b) return;
  if (!change.a || !change.b)
    throw refuse("adapter_part", "adapter: {} has only one of A and B", in_quotes(name));
  if (change.a->rows != change.b->columns)
    throw refuse("adapter_rank", "adapter: {}: A has {} rows, but B has {} columns", in_quotes(name),
                 change.a->rows, change.b->columns);
  if (!change.magnitude.empty() && std::ssize(change.magnitude) != change.b->rows)
    throw refuse("adapter_part", "adapter: {}: the magnitude vector has {} elements for {} rows",
                 in_quotes(name), change.magnitude.size(), change.b->rows);
}

}  // namespace

AdapterSource read_adapter_source(const fs::path& path, double scale, int64_t bytes_max) {
  const bool peft = fs::is_directory(path);
  AdapterSource source{.changes = {}, .canonical = !peft, .architecture = {}};
  source.changes = peft ? read_peft(path, scale, bytes_max)
                        : read_gguf_adapter(path, scale, bytes_max, source.architecture);
  if (source.changes.empty()) throw refuse("adapter_part", "adapter: it changes nothing");
  for (const auto& [name, change] : source.changes) check_change(name, change);
  return source;
}

std::vector<TensorRule> adapter_rules(const WeightFile& base, const AdapterSource& adapter) {
  if (!adapter.canonical) return checkpoint_rules(base);
  const auto architecture = base.metadata().text("general.architecture").value_or("");
  if (!adapter.architecture.empty() && adapter.architecture != architecture)
    throw refuse("adapter_base", "adapter: it is for the architecture {}, but the model is {}",
                 in_quotes(adapter.architecture), in_quotes(architecture));
  std::vector<TensorRule> rules;
  for (const TensorEntry& tensor : base.tensors()) rules.push_back({tensor.name, {tensor.name}});
  return rules;
}

}  // namespace neutrino::weights
