#include "weights/merge.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using Values = std::vector<float>;

constexpr std::pair<std::string_view, MergeMethod> kMethods[] = {{"linear", MergeMethod::linear},
                                                                 {"slerp", MergeMethod::slerp},
                                                                 {"ties", MergeMethod::ties},
                                                                 {"dare", MergeMethod::dare}};
constexpr double kParallel = 0.9995;  // cosine from which the arc is as good as the chord, and safer

bool needs_base(MergeMethod method) { return method == MergeMethod::ties || method == MergeMethod::dare; }

Values linear(const std::vector<Values>& models, const std::vector<double>& weights) {
  double total = 0;
  for (const double weight : weights) total += weight;
  Values out(models[0].size());
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (size_t m = 0; m < models.size(); ++m) sum += weights[m] * models[m][i];
    out[i] = static_cast<float>(sum / total);
  }
  return out;
}

Values slerp(const Values& a, const Values& b, double t) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i)
    ab += double{a[i]} * b[i], aa += double{a[i]} * a[i], bb += double{b[i]} * b[i];
  const double cosine = aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 1;
  double first = 1 - t, second = t;
  if (std::abs(cosine) < kParallel) {
    const double angle = std::acos(cosine);
    first = std::sin((1 - t) * angle) / std::sin(angle);
    second = std::sin(t * angle) / std::sin(angle);
  }
  Values out(a.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(first * a[i] + second * b[i]);
  return out;
}

std::vector<double> task_vector(const Values& base, const Values& model) {
  std::vector<double> delta(base.size());
  for (size_t i = 0; i < delta.size(); ++i) delta[i] = double{model[i]} - base[i];
  return delta;
}

// Zeroes all but the `density` of largest magnitude; of equal ones the first stay.
void trim(std::vector<double>& delta, double density) {
  const auto kept = static_cast<size_t>(std::ceil(density * static_cast<double>(delta.size())));
  if (kept >= delta.size()) return;
  std::vector<double> sizes(delta.size());
  std::ranges::transform(delta, sizes.begin(), [](double v) { return std::abs(v); });
  std::ranges::nth_element(sizes, sizes.begin() + static_cast<int64_t>(kept) - 1, std::greater<>());
  const double threshold = sizes[kept - 1];
  auto ties =
      std::ssize(delta) - std::ranges::count_if(delta, [&](double v) { return std::abs(v) <= threshold; });
  ties = static_cast<int64_t>(kept) - ties;  // elements of exactly the threshold that stay
  for (double& value : delta)
    if (std::abs(value) < threshold || (std::abs(value) == threshold && ties-- <= 0)) value = 0;
}

Values ties(const Values& base, const std::vector<Values>& models, const std::vector<double>& weights,
            const MergeOptions& options) {
  std::vector<std::vector<double>> deltas;
  for (const Values& model : models) trim(deltas.emplace_back(task_vector(base, model)), options.density);
  Values out(base.size());
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0, agreeing = 0, weight = 0;
    for (size_t m = 0; m < deltas.size(); ++m) sum += weights[m] * deltas[m][i];
    for (size_t m = 0; m < deltas.size(); ++m) {
      const double delta = weights[m] * deltas[m][i];
      if (delta == 0 || (delta > 0) != (sum > 0)) continue;
      agreeing += delta, weight += weights[m];
    }
    out[i] = static_cast<float>(base[i] + (weight != 0 ? options.scale * agreeing / weight : 0));
  }
  return out;
}

Values dare(const Values& base, const std::vector<Values>& models, const std::vector<double>& weights,
            const MergeOptions& options, uint64_t seed) {
  std::vector<double> sum(base.size());
  for (size_t m = 0; m < models.size(); ++m) {
    Random random(seed + m);
    for (size_t i = 0; i < sum.size(); ++i)
      if (random.uniform() < options.density)
        sum[i] += weights[m] * (double{models[m][i]} - base[i]) / options.density;
  }
  Values out(base.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(base[i] + options.scale * sum[i]);
  return out;
}

// Another one for every tensor, whatever the order in which they are made.
uint64_t seed_of(uint64_t seed, std::string_view tensor) {
  uint64_t hash = seed ^ 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : tensor) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

void check_options(const WeightFile* base, std::span<const WeightFile* const> models,
                   const MergeOptions& options) {
  const auto refuse = [](const std::string& message) { throw Error(ErrorCode::invalid_argument, message); };
  if (models.empty()) refuse("a merge needs at least one model");
  if (options.method == MergeMethod::slerp && models.size() != 2)
    refuse(fmt::format("slerp merges 2 models, got {}", models.size()));
  if (needs_base(options.method) && !base) refuse("ties and dare need a base model");
  if (!options.weights.empty() && options.weights.size() != models.size())
    refuse(fmt::format("there must be one weight for each of {} models, got {}", models.size(),
                       options.weights.size()));
  double total = 0;
  for (const double weight : options.weights) total += weight;
  if (!options.weights.empty() &&
      (!std::isfinite(total) || (options.method == MergeMethod::linear && total == 0)))
    refuse("the weights must be finite, and for linear have a sum other than 0");
  if (!(options.density > 0 && options.density <= 1))
    refuse(fmt::format("density must be above 0 and at most 1, got {}", options.density));
  if (!std::isfinite(options.scale)) refuse(fmt::format("scale must be finite, got {}", options.scale));
  if (!(options.t >= 0 && options.t <= 1)) refuse(fmt::format("t must be 0 to 1, got {}", options.t));
}

std::string architecture(const WeightFile& file) {
  return std::string(file.metadata().text("general.architecture").value_or(""));
}

// `other` has the tensors of `first`, and no more, in the same shapes.
void check_same_shape(const WeightFile& first, const WeightFile& other) {
  const std::string name = other.path().filename().string();
  if (architecture(first) != architecture(other))
    throw make_error(ErrorCode::invalid_argument, "{} is of architecture {}, but {} of {}", name,
                     architecture(other), first.path().filename().string(), architecture(first));
  for (const TensorEntry& tensor : first.tensors()) {
    const TensorEntry* same = other.find(tensor.name);
    if (!same) throw make_error(ErrorCode::invalid_argument, "{} has no tensor {}", name, tensor.name);
    if (same->shape != tensor.shape)
      throw make_error(ErrorCode::invalid_argument, "tensor {} of {} has shape {}, but in {} it has {}",
                       tensor.name, name, shape_text(same->shape), first.path().filename().string(),
                       shape_text(tensor.shape));
  }
  for (const TensorEntry& tensor : other.tensors())
    if (!first.find(tensor.name))
      throw make_error(ErrorCode::invalid_argument, "{} has the further tensor {}", name, tensor.name);
}

}  // namespace

MergeMethod merge_method_named(std::string_view name) {
  for (const auto& [known, method] : kMethods)
    if (known == name) return method;
  throw make_error(ErrorCode::invalid_argument,
                   "the method must be linear, slerp, ties or dare, got \"{:.40}\"", name);
}

std::unique_ptr<WeightFile> merge_models(const WeightFile* base, std::span<const WeightFile* const> models,
                                         const MergeOptions& given) {
  check_options(base, models, given);
  MergeOptions options = given;
  if (options.weights.empty()) options.weights.assign(models.size(), 1);
  const WeightFile& first = needs_base(options.method) ? *base : *models[0];
  for (const WeightFile* model : models)
    if (model != &first) check_same_shape(first, *model);
  const std::vector<const WeightFile*> parents(models.begin(), models.end());
  std::map<std::string, DerivedFile::Maker> makers;
  for (const TensorEntry& tensor : first.tensors()) {
    if (tensor.name == "rope_freqs.weight" || tensor.name.ends_with(".scale")) continue;  // not weights
    makers[tensor.name] = [&first, parents, options, name = tensor.name] {
      std::vector<Values> values;
      for (const WeightFile* parent : parents) values.push_back(read_values(*parent, *parent->find(name)));
      if (options.method == MergeMethod::linear) return linear(values, options.weights);
      if (options.method == MergeMethod::slerp) return slerp(values[0], values[1], options.t);
      const Values base_values = read_values(first, *first.find(name));
      if (options.method == MergeMethod::ties) return ties(base_values, values, options.weights, options);
      return dare(base_values, values, options.weights, options, seed_of(options.seed, name));
    };
  }
  return std::make_unique<DerivedFile>(first, std::move(makers), options.types);
}

}  // namespace neutrino::weights
