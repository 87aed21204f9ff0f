#include "weights/adapter.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "weights/checkpoint_form.h"
#include "weights/checkpoint_source.h"
#include "weights/safetensors.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kConfigBytes = 1 << 20;
constexpr std::string_view kPrefix = "base_model.model.";

struct Dense {
  int64_t rows = 0, columns = 0;
  std::vector<float> values;
};

// What an adapter does to one matrix (rows, columns) of the checkpoint, or of the canonical form for a GGUF adapter.
struct Change {
  std::optional<Dense> a, b;      // (r, columns), (rows, r)
  double scale = 1;               // alpha / r, times the user's
  std::vector<float> magnitude;   // DoRA: (rows)
  std::optional<Dense> replaced;  // modules_to_save: all of it
  bool used = false;
};
using Changes =
    std::map<std::string, Change>;  // by the tensor's name: "model.layers.0.self_attn.q_proj.weight"

Error refuse_adapter(std::string_view what) {
  return Error(ErrorCode::invalid_argument, fmt::format("adapter: {}", what));
}

Dense read_dense(const StTensor& tensor) {
  const auto source = plain_source(tensor);
  if (const std::string wrong = source->unusable(); !wrong.empty())
    throw refuse_adapter(fmt::format("tensor {} {}", tensor.name, wrong));
  const int64_t rows = source->rows(), columns = source->columns();
  Dense dense{rows, columns, std::vector<float>(static_cast<size_t>(rows * columns))};
  const TensorData data = source->matrix(0);
  const int64_t stride = *compute::row_bytes(source->dtype(), columns);
  for (int64_t r = 0; r < rows; ++r)
    compute::dequantize_row(source->dtype(), data.data + r * stride, columns,
                            dense.values.data() + r * columns);
  return dense;
}

// ---- PEFT

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
      throw refuse_adapter(fmt::format("{}: \"{:.60}\" must be a number", field, std::string_view(pattern)));
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
    throw refuse_adapter(fmt::format("adapter_config.json: {} must be a number above 0", field));
  return value->to_number<double>();
}

PeftConfig read_peft_config(const fs::path& folder) {
  const json::value parsed = parse_json(read_file(folder / "adapter_config.json", kConfigBytes));
  if (!parsed.is_object()) throw refuse_adapter("adapter_config.json must be an object");
  const json::object& config = parsed.get_object();
  const json::value* type = config.if_contains("peft_type");
  if (!type || !type->is_string() || type->get_string() != "LORA")
    throw refuse_adapter("adapter_config.json: peft_type must be \"LORA\"");
  for (const char* field : {"fan_in_fan_out", "lora_bias"})
    if (flag(config, field))
      throw refuse_adapter(fmt::format("adapter_config.json: {} is not supported", field));
  if (const json::value* bias = config.if_contains("bias");
      bias && bias->is_string() && bias->get_string() != "none")
    throw refuse_adapter(fmt::format("adapter_config.json: bias must be \"none\", got \"{:.40}\"",
                                     std::string_view(bias->get_string())));
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
      throw refuse_adapter(fmt::format("the pattern \"{:.60}\" must be the end of a module's path", pattern));
    if (module == pattern || module.ends_with("." + pattern)) return value;
  }
  return otherwise;
}

// "...q_proj.lora_A.weight": the module, and which part of its change this is.
struct PartName {
  std::string module, part;
};

PartName split_name(std::string name) {
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  for (const std::string_view part :
       {".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B", ".base_layer.weight",
        ".lora_magnitude_vector.weight", ".lora_magnitude_vector"})
    if (name.ends_with(part)) return {name.substr(0, name.size() - part.size()), std::string(part.substr(1))};
  return {name, {}};
}

Dense transposed(const Dense& dense) {
  Dense out{dense.columns, dense.rows, std::vector<float>(dense.values.size())};
  for (int64_t r = 0; r < dense.rows; ++r)
    for (int64_t c = 0; c < dense.columns; ++c)
      out.values[c * dense.rows + r] = dense.values[r * dense.columns + c];
  return out;
}

void take_part(Changes& changes, const PartName& name, Dense dense) {
  if (name.part.empty()) {
    changes[name.module].replaced = std::move(dense);
    return;
  }
  Change& change = changes[name.module + ".weight"];
  if (name.part == "lora_A.weight") change.a = std::move(dense);
  if (name.part == "lora_B.weight") change.b = std::move(dense);
  if (name.part == "base_layer.weight") change.replaced = std::move(dense);
  // An embedding's change is (B A)^T: its rows are tokens.
  if (name.part == "lora_embedding_A") change.b = transposed(dense);
  if (name.part == "lora_embedding_B") change.a = transposed(dense);
  if (name.part.starts_with("lora_magnitude")) change.magnitude = std::move(dense.values);
}

Changes read_peft(const fs::path& folder, double scale) {
  const PeftConfig config = read_peft_config(folder);
  SafetensorsSet set;
  const std::string files[] = {"adapter_model.safetensors"};
  set.open(folder, files, Links::follow);
  Changes changes;
  for (const auto& [name, tensor] : set.tensors()) take_part(changes, split_name(name), read_dense(tensor));
  for (auto& [name, change] : changes) {
    const std::string module = name.substr(0, name.rfind('.'));
    const double rank = by_pattern(config.ranks, module, config.r);
    const double alpha = by_pattern(config.alphas, module, config.alpha);
    change.scale = scale * alpha / (config.rslora ? std::sqrt(rank) : rank);
    if (change.a && std::abs(static_cast<double>(change.a->rows) - rank) > 0.5)
      throw refuse_adapter(
          fmt::format("{} has rank {}, but adapter_config.json says {}", name, change.a->rows, rank));
    if (config.dora && change.a && change.magnitude.empty())
      throw refuse_adapter(fmt::format("{} has no lora_magnitude_vector, but use_dora is true", name));
  }
  return changes;
}

// ---- GGUF

Changes read_gguf_adapter(const fs::path& path, double scale) {
  const auto file = open_weight_file(path);
  const Metadata& metadata = file->metadata();
  if (metadata.text("general.type").value_or("") != "adapter" ||
      metadata.text("adapter.type").value_or("") != "lora")
    throw refuse_adapter("a GGUF adapter has general.type \"adapter\" and adapter.type \"lora\"");
  const double alpha = metadata.number("adapter.lora.alpha").value_or(0);
  Changes changes;
  for (const TensorEntry& tensor : file->tensors()) {
    const bool a = tensor.name.ends_with(".lora_a"), b = tensor.name.ends_with(".lora_b");
    if ((!a && !b) || tensor.shape.size() != 2)
      throw refuse_adapter(
          fmt::format("tensor {} must be a two-dimensional .lora_a or .lora_b", tensor.name));
    Change& change = changes[tensor.name.substr(0, tensor.name.size() - 7)];
    (a ? change.a : change.b) = Dense{tensor.shape[0], tensor.shape[1], read_values(*file, tensor)};
    if (b) change.scale = alpha > 0 ? scale * alpha / static_cast<double>(tensor.shape[1]) : scale;
  }
  return changes;
}

// ---- to the canonical tensors

void check_change(const std::string& name, const Change& change) {
  if (change.replaced && !change.a && !change.b) return;
  if (!change.a || !change.b) throw refuse_adapter(fmt::format("{} has only one of A and B", name));
  if (change.a->rows != change.b->columns)
    throw refuse_adapter(
        fmt::format("{}: A has {} rows, but B has {} columns", name, change.a->rows, change.b->columns));
  if (!change.magnitude.empty() && std::ssize(change.magnitude) != change.b->rows)
    throw refuse_adapter(fmt::format("{}: the magnitude vector has {} elements for {} rows", name,
                                     change.magnitude.size(), change.b->rows));
}

// Row `row` of W + s B A, W's row given; with DoRA normalised to its magnitude.
void change_row(const Change& change, int64_t row, std::vector<double>& w) {
  if (change.replaced)
    for (size_t c = 0; c < w.size(); ++c) w[c] = change.replaced->values[row * change.replaced->columns + c];
  if (!change.a) return;
  for (int64_t k = 0; k < change.a->rows; ++k) {
    const double b = change.scale * change.b->values[row * change.b->columns + k];
    for (size_t c = 0; c < w.size(); ++c) w[c] += b * change.a->values[k * change.a->columns + c];
  }
  if (change.magnitude.empty()) return;
  double squares = 0;
  for (const double value : w) squares += value * value;
  for (double& value : w) value *= change.magnitude[row] / std::sqrt(squares);
}

// Rows and columns of one matrix of a canonical tensor.
struct Size {
  int64_t rows, columns;
};

Size matrix_size(const TensorEntry& tensor) {
  if (tensor.shape.size() == 1) return {tensor.shape[0], 1};
  return {tensor.shape[tensor.shape.size() - 2], tensor.shape.back()};
}

// Whole rows only: a norm over inputs and a row's values do not care for the order of rows.
void check_fits(const Change& change, const TensorRule& rule, const Size& size) {
  const Transform& t = rule.transform;
  const int64_t rows = change.replaced ? change.replaced->rows : change.b->rows;
  const int64_t columns = change.replaced ? change.replaced->columns : change.a->columns;
  if (t.transpose || !t.columns.empty() || t.map != Transform::Map::none)
    throw refuse_adapter(
        fmt::format("{} is laid out in a way that adapters cannot be merged into", rule.name));
  const int64_t last = t.rows.empty() ? size.rows - 1 : *std::ranges::max_element(t.rows);
  const bool same = !t.rows.empty() || rows == size.rows;
  const bool both = !change.replaced || !change.a || (change.b->rows == rows && change.a->columns == columns);
  if (columns != size.columns || last >= rows || !same || !both)
    throw refuse_adapter(fmt::format("{} is ({}, {}) in the adapter, but ({}, {}) in the model",
                                     rule.sources[0], rows, columns, size.rows, size.columns));
}

// The canonical matrix with the change of the checkpoint's matrix that its rule reads.
void change_matrix(const Change& change, const TensorRule& rule, float* matrix, const Size& size) {
  std::vector<double> w(static_cast<size_t>(size.columns));
  for (int64_t r = 0; r < size.rows; ++r) {
    float* out = matrix + r * size.columns;
    std::copy_n(out, size.columns, w.begin());
    change_row(change, rule.transform.rows.empty() ? r : rule.transform.rows[r], w);
    for (int64_t c = 0; c < size.columns; ++c) out[c] = static_cast<float>(w[c]);
  }
}

std::vector<float> changed_values(const WeightFile& base, const TensorRule& rule,
                                  const std::vector<std::pair<int64_t, const Change*>>& changes) {
  const TensorEntry& tensor = *base.find(rule.name);
  const Size size = matrix_size(tensor);
  std::vector<float> values = read_values(base, tensor);
  for (const auto& [matrix, change] : changes)
    change_matrix(*change, rule, values.data() + matrix * size.rows * size.columns, size);
  return values;
}

std::vector<TensorRule> plain_rules(const WeightFile& base) {
  std::vector<TensorRule> rules;
  for (const TensorEntry& tensor : base.tensors()) rules.push_back({tensor.name, {tensor.name}});
  return rules;
}

}  // namespace

std::unique_ptr<WeightFile> merge_adapter(const WeightFile& base, const fs::path& path,
                                          const AdapterOptions& options) {
  const bool peft = fs::is_directory(path);
  const auto changes = std::make_shared<Changes>(peft ? read_peft(path, options.scale)
                                                      : read_gguf_adapter(path, options.scale));
  if (changes->empty()) throw refuse_adapter("it changes nothing");
  for (const auto& [name, change] : *changes) check_change(name, change);
  const std::vector<TensorRule> rules = peft ? checkpoint_form(base).rules : plain_rules(base);
  std::map<std::string, DerivedFile::Maker> makers;
  for (const TensorRule& rule : rules) {
    std::vector<std::pair<int64_t, const Change*>> mine;
    for (size_t i = 0; i < rule.sources.size(); ++i) {
      const auto found = changes->find(rule.sources[i]);
      if (found == changes->end()) continue;
      check_fits(found->second, rule, matrix_size(*base.find(rule.name)));
      found->second.used = true;
      mine.emplace_back(static_cast<int64_t>(i), &found->second);
    }
    if (!mine.empty())
      makers[rule.name] = [&base, rule, mine, changes] { return changed_values(base, rule, mine); };
  }
  for (const auto& [name, change] : *changes)
    if (!change.used) throw refuse_adapter(fmt::format("the model has no {}", name));
  return std::make_unique<DerivedFile>(base, std::move(makers), options.types);
}

}  // namespace neutrino::weights
