#include "weights/adapter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "weights/adapter_source.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

// Row `row` of W + s B A, W's row given; with DoRA normalised to its magnitude.
void change_row(const AdapterChange& change, int64_t row, std::vector<double>& w) {
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
void check_fits(const AdapterChange& change, const TensorRule& rule, const Size& size) {
  const Transform& t = rule.transform;
  const int64_t rows = change.replaced ? change.replaced->rows : change.b->rows;
  const int64_t columns = change.replaced ? change.replaced->columns : change.a->columns;
  if (t.transpose || !t.columns.empty() || t.map != Transform::Map::none)
    throw refuse("adapter_layout", "adapter: {} is laid out in a way that adapters cannot be merged into",
                 rule.name);
  const int64_t last = t.rows.empty() ? size.rows - 1 : *std::ranges::max_element(t.rows);
  const bool same = !t.rows.empty() || rows == size.rows;
  const bool both = !change.replaced || !change.a || (change.b->rows == rows && change.a->columns == columns);
  if (columns != size.columns || last >= rows || !same || !both)
    throw refuse("adapter_shape", "adapter: {} is ({}, {}) in the adapter, but ({}, {}) in the model",
                 rule.sources[0], rows, columns, size.rows, size.columns);
}

// The canonical matrix with the change of the checkpoint's matrix that its rule reads.
void change_matrix(const AdapterChange& change, const TensorRule& rule, float* matrix, const Size& size) {
  std::vector<double> w(static_cast<size_t>(size.columns));
  for (int64_t r = 0; r < size.rows; ++r) {
    float* out = matrix + r * size.columns;
    std::copy_n(out, size.columns, w.begin());
    change_row(change, rule.transform.rows.empty() ? r : rule.transform.rows[r], w);
    for (int64_t c = 0; c < size.columns; ++c) out[c] = static_cast<float>(w[c]);
  }
}

std::vector<float> changed_values(const WeightFile& base, const TensorRule& rule,
                                  const std::vector<std::pair<int64_t, const AdapterChange*>>& changes) {
  const TensorEntry& tensor = *base.find(rule.name);
  const Size size = matrix_size(tensor);
  std::vector<float> values = read_values(base, tensor);
  for (const auto& [matrix, change] : changes)
    change_matrix(*change, rule, values.data() + matrix * size.rows * size.columns, size);
  return values;
}

}  // namespace

std::unique_ptr<WeightFile> merge_adapter(const WeightFile& base, const std::filesystem::path& path,
                                          const AdapterOptions& options) {
  const auto source = std::make_shared<AdapterSource>(
      read_adapter_source(path, options.scale, std::numeric_limits<int64_t>::max()));
  std::map<std::string, DerivedFile::Maker> makers;
  std::set<std::string> used;
  for (const TensorRule& rule : adapter_rules(base, *source)) {
    std::vector<std::pair<int64_t, const AdapterChange*>> mine;
    for (size_t i = 0; i < rule.sources.size(); ++i) {
      const auto found = source->changes.find(rule.sources[i]);
      if (found == source->changes.end()) continue;
      check_fits(found->second, rule, matrix_size(*base.find(rule.name)));
      used.insert(found->first);
      mine.emplace_back(static_cast<int64_t>(i), &found->second);
    }
    if (!mine.empty())
      makers[rule.name] = [&base, rule, mine, source] { return changed_values(base, rule, mine); };
  }
  for (const auto& [name, change] : source->changes)
    if (!used.contains(name)) throw refuse("adapter_target", "adapter: the model has no {}", in_quotes(name));
  return std::make_unique<DerivedFile>(base, std::move(makers), options.types);
}

}  // namespace neutrino::weights
