#include "weights/adapter_updates.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <span>

#include "weights/adapter_source.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

void refuse_unservable(const std::string& name, const AdapterChange& change, const AdapterLimits& limits) {
  if (!change.magnitude.empty())
    throw refuse(
        "adapter_dora",
        "adapter: DoRA (use_dora, {} has a magnitude vector) cannot be served beside its base; merge "
        "the adapter instead",
        in_quotes(name));
  if (change.replaced)
    throw refuse(
        "adapter_modules_to_save",
        "adapter: modules_to_save ({} is replaced as a whole) cannot be served beside its base; merge "
        "the adapter instead",
        in_quotes(name));
  if (change.a->rows < 1 || change.a->rows > limits.rank_max)
    throw refuse("adapter_rank_limit", "adapter: {} has rank {}, the rank must be 1 to {}", in_quotes(name),
                 change.a->rows, limits.rank_max);
}

// The rule reads the change's matrix row by row and column by column.
void check_fits(const AdapterChange& change, const TensorRule& rule, const TensorEntry& tensor) {
  const Transform& t = rule.transform;
  if (rule.sources.size() != 1 || tensor.shape.size() != 2 || t.transpose || t.transpose_last ||
      t.map != Transform::Map::none)
    throw refuse(
        "adapter_layout",
        "adapter: {} is part of a tensor of experts or of another layout that adapters cannot change "
        "while serving; merge the adapter instead",
        in_quotes(rule.sources[0]));
  const auto fits = [](const std::vector<int64_t>& indices, int64_t there, int64_t wanted) {
    return indices.empty() ? there == wanted
                           : std::ssize(indices) == wanted && *std::ranges::max_element(indices) < there;
  };
  if (!fits(t.rows, change.b->rows, tensor.shape[0]) || !fits(t.columns, change.a->columns, tensor.shape[1]))
    throw refuse("adapter_shape", "adapter: {} is ({}, {}) in the adapter, but ({}, {}) in the model",
                 in_quotes(rule.sources[0]), change.b->rows, change.a->columns, tensor.shape[0],
                 tensor.shape[1]);
}

AdapterUpdate make_update(const AdapterChange& change, const TensorRule& rule, const TensorEntry& tensor) {
  check_fits(change, rule, tensor);
  const Transform& t = rule.transform;
  AdapterUpdate update{.tensor = rule.name,
                       .rows = tensor.shape[0],
                       .columns = tensor.shape[1],
                       .rank = change.a->rows,
                       .a = {},
                       .b = {}};
  update.a.reserve(static_cast<size_t>(update.rank * update.columns));
  for (int64_t k = 0; k < update.rank; ++k)
    for (int64_t c = 0; c < update.columns; ++c)
      update.a.push_back(change.a->values[k * change.a->columns + (t.columns.empty() ? c : t.columns[c])]);
  update.b.reserve(static_cast<size_t>(update.rows * update.rank));
  for (int64_t r = 0; r < update.rows; ++r)
    for (int64_t k = 0; k < update.rank; ++k)
      update.b.push_back(static_cast<float>(
          change.scale * change.b->values[(t.rows.empty() ? r : t.rows[r]) * update.rank + k]));
  for (const float value : update.b)
    if (!std::isfinite(value))
      throw refuse("adapter_value", "adapter: {} is not finite once it is scaled",
                   in_quotes(rule.sources[0]));
  return update;
}

Sha256Digest digest_of(const AdapterUpdates& updates) {
  Sha256 hash;
  for (const AdapterUpdate& update : updates.list) {
    hash.update(fmt::format("{} {} {} {}\n", update.tensor, update.rows, update.columns, update.rank));
    hash.update(std::as_bytes(std::span(update.a)));
    hash.update(std::as_bytes(std::span(update.b)));
  }
  return hash.finish();
}

}  // namespace

AdapterUpdates read_adapter_updates(const WeightFile& base, const std::filesystem::path& path,
                                    const AdapterLimits& limits) {
  const AdapterSource source = read_adapter_source(path, 1, limits.bytes_max);
  for (const auto& [name, change] : source.changes) refuse_unservable(name, change, limits);
  AdapterUpdates updates;
  std::set<std::string> used;
  for (const TensorRule& rule : adapter_rules(base, source))
    for (const std::string& name : rule.sources) {
      const auto found = source.changes.find(name);
      if (found == source.changes.end()) continue;
      used.insert(name);
      updates.list.push_back(make_update(found->second, rule, *base.find(rule.name)));
      const AdapterUpdate& update = updates.list.back();
      updates.rank = std::max(updates.rank, update.rank);
      updates.parameters += update.rank * (update.rows + update.columns);
    }
  for (const auto& [name, change] : source.changes)
    if (!used.contains(name)) throw refuse("adapter_target", "adapter: the model has no {}", in_quotes(name));
  updates.digest = digest_of(updates);
  return updates;
}

}  // namespace neutrino::weights
