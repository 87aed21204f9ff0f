#include "weights/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <map>

#include "base/checked.h"
#include "compute/quantize.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using compute::DType;

constexpr QuantMix kMixes[] = {
    {"f32", DType::f32, 0},        {"f16", DType::f16, 1},      {"bf16", DType::bf16, 32},
    {"q8_0", DType::q8_0, 7},      {"q4_0", DType::q4_0, 2},    {"q4_1", DType::q4_1, 3},
    {"q4_k_m", DType::q4_k, 15},   {"q5_k_m", DType::q5_k, 17}, {"q6_k", DType::q6_k, 18},
    {"iq4_xs", DType::iq4_xs, 30}, {"mxfp4", DType::mxfp4, 38},
};

bool is_plain(DType dtype) { return compute::dtype_info(dtype).block == 1; }

// ---- which tensors keep float32

// Parts of names of matrices that are small and that much depends on.
constexpr std::string_view kKept[] = {
    "_norm.weight",    // norms, also those of more than one dimension
    "ffn_gate_inp",    // routers
    "ssm_conv1d",      // convolutions of a few columns
    "shortconv.conv",  //
    "position_embd",   // learned positions
    "token_types",     //
    "attn_rel_b",      // relative positions
};

bool is_matrix(const TensorEntry& tensor) {
  const auto& shape = tensor.shape;
  const auto outermost = std::find_if(shape.begin(), shape.end(), [](int64_t size) { return size > 1; });
  return shape.end() - outermost >= 2;
}

bool keeps_float32(const TensorEntry& tensor) {
  return !is_matrix(tensor) || !tensor.name.ends_with("weight") ||
         std::any_of(std::begin(kKept), std::end(kKept),
                     [&](std::string_view part) { return tensor.name.find(part) != std::string::npos; });
}

// ---- the mixes

enum class Role { output, token_embedding, value, key, attention_output, ffn_down, other };

Role role_of(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (name == "output.weight") return Role::output;
  if (name == "token_embd.weight") return Role::token_embedding;
  if (has("attn_v.weight") || has("attn_qkv.weight") || has("attn_kv_b.weight")) return Role::value;
  if (has("attn_k.weight")) return Role::key;
  if (has("attn_output.weight")) return Role::attention_output;
  if (has("ffn_down")) return Role::ffn_down;
  return Role::other;
}

std::optional<int64_t> layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return std::nullopt;
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return layer;
}

// What the mixes ask about a model; all of it stands in the tensors' names and shapes.
struct ModelShape {
  int64_t layers = 0;
  int64_t experts = 0;
  int64_t heads_per_value_head = 1;        // of the first layer that tells
  bool tied = true;                        // the embedding is the output matrix too
  std::map<int64_t, int64_t> value_order;  // layer -> how many layers with a value matrix come before it
};

ModelShape shape_of(std::span<const TensorEntry> tensors) {
  ModelShape shape;
  std::map<int64_t, int64_t> values, outputs;  // layer -> rows of attn_v, columns of attn_output
  for (const TensorEntry& tensor : tensors) {
    const Role role = role_of(tensor.name);
    if (role == Role::output) shape.tied = false;
    if (role == Role::ffn_down && tensor.shape.size() == 3) shape.experts = tensor.shape[0];
    const auto layer = layer_of(tensor.name);
    if (!layer || tensor.shape.size() < 2) continue;
    shape.layers = std::max(shape.layers, *layer + 1);
    if (role == Role::value) shape.value_order[*layer] = 0, values[*layer] = tensor.shape[0];
    if (role == Role::attention_output) outputs[*layer] = tensor.shape.back();
  }
  int64_t order = 0;
  for (auto& [layer, index] : shape.value_order) index = order++;
  for (const auto& [layer, rows] : values)
    if (outputs.contains(layer)) {
      shape.heads_per_value_head = outputs[layer] / rows;
      break;
    }
  return shape;
}

// The first and the last eighth, and every third between.
bool gets_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType value_type(const ModelShape& shape, const QuantMix& mix, int64_t layer) {
  if (shape.experts == 8) return DType::q8_0;  // small beside eight experts
  const auto layers = static_cast<int64_t>(shape.value_order.size());
  const bool more = gets_more_bits(shape.value_order.at(layer), layers);
  if ((mix.name == "q4_k_m" || mix.name == "q5_k_m") && more) return DType::q6_k;
  if (mix.name == "iq4_xs" && shape.heads_per_value_head >= 4) return DType::q5_k;
  return mix.base;
}

DType ffn_down_type(const ModelShape& shape, const QuantMix& mix, int64_t layer) {
  if ((mix.name == "q4_k_m" || mix.name == "q5_k_m") && gets_more_bits(layer, shape.layers))
    return DType::q6_k;
  if (mix.name == "iq4_xs" && layer < shape.layers / 8) return DType::q5_k;
  return mix.base;
}

DType output_type(const TensorEntry& tensor, const QuantMix& mix) {
  const bool fits = tensor.shape.back() % compute::dtype_info(mix.base).block == 0;
  return mix.base == DType::mxfp4 || mix.base == DType::q8_0 || !fits ? DType::q8_0 : DType::q6_k;
}

DType wanted_type(const TensorEntry& tensor, const ModelShape& shape, const QuantMix& mix) {
  if (is_plain(mix.base)) return mix.base;
  const Role role = role_of(tensor.name);
  if (role == Role::output || (role == Role::token_embedding && shape.tied)) return output_type(tensor, mix);
  // As gpt-oss has it: the experts in four bits, all else in eight.
  if (mix.base == DType::mxfp4) return tensor.shape.size() == 3 ? DType::mxfp4 : DType::q8_0;
  const auto layer = layer_of(tensor.name);
  if (layer && role == Role::value) return value_type(shape, mix, *layer);
  if (layer && role == Role::ffn_down) return ffn_down_type(shape, mix, *layer);
  if (shape.experts == 8 && role == Role::key) return DType::q8_0;
  if (shape.experts == 8 && role == Role::attention_output && (mix.name == "q4_k_m" || mix.name == "iq4_xs"))
    return DType::q5_k;
  return mix.base;
}

// The type of smaller blocks that is next in size.
DType fallback(DType dtype) {
  switch (dtype) {
    case DType::q4_k: return DType::q5_0;
    case DType::q5_k: return DType::q5_1;
    case DType::q6_k: return DType::q8_0;
    case DType::iq4_xs: return DType::iq4_nl;
    default: return DType::f16;
  }
}

DType fitting_type(DType wanted, int64_t columns) {
  while (columns % compute::dtype_info(wanted).block != 0) wanted = fallback(wanted);
  return wanted;
}

// ---- bytes

// The first value that does not fit, by position in the tensor.
class FirstRefusal {
 public:
  void note(int64_t element) {
    int64_t known = element_.load();
    while (element < known && !element_.compare_exchange_weak(known, element)) {
    }
  }
  std::optional<int64_t> element() const {
    return element_ == INT64_MAX ? std::nullopt : std::optional(element_.load());
  }

 private:
  std::atomic<int64_t> element_ = INT64_MAX;
};

constexpr int64_t kPieceBytes = 4 << 20;  // of float32
constexpr int64_t kItemRows = 8;

// A matrix of a tensor (all of it, or one of a stack).
struct Rows {
  const TensorEntry& tensor;
  const std::byte* data;
  int64_t first_row;  // of the matrix in the tensor
  int64_t rows;
  DType target;
  int64_t columns, source_bytes, target_bytes;  // of a row

  // Row `row` of the matrix; the column that does not fit, or -1.
  int64_t quantize(int64_t row, std::byte* out) const {
    thread_local std::vector<float> floats;
    floats.resize(static_cast<size_t>(columns));
    compute::dequantize_row(tensor.dtype, data + row * source_bytes, columns, floats.data());
    return compute::quantize_weights(target, floats.data(), columns, out);
  }
};

[[noreturn]] void refuse_value(const Rows& matrix, int64_t element) {
  const int64_t row = element / matrix.columns, column = element % matrix.columns;
  std::vector<float> floats(static_cast<size_t>(matrix.columns));
  compute::dequantize_row(matrix.tensor.dtype, matrix.data + row * matrix.source_bytes, matrix.columns,
                          floats.data());
  throw make_error(ErrorCode::invalid_argument,
                   "tensor {} cannot be written as {}: row {} column {} is {}, finite values of at most {} "
                   "were expected",
                   in_quotes(matrix.tensor.name), compute::dtype_info(matrix.target).name,
                   matrix.first_row + row, column, floats[static_cast<size_t>(column)],
                   compute::largest_weight(matrix.target));
}

void quantize_piece(const Rows& matrix, int64_t first, int64_t count, compute::cpu::ThreadTeam& team,
                    std::byte* out) {
  FirstRefusal refusal;
  team.run(ceil_div(count, kItemRows), [&](int64_t item, int64_t) {
    for (int64_t r = item * kItemRows; r < std::min((item + 1) * kItemRows, count); ++r)
      if (const int64_t column = matrix.quantize(first + r, out + r * matrix.target_bytes); column >= 0)
        refusal.note((first + r) * matrix.columns + column);
  });
  if (const auto element = refusal.element()) refuse_value(matrix, *element);
}

using Sink = std::function<void(std::span<const std::byte>)>;

void quantize_matrix(const Rows& matrix, compute::cpu::ThreadTeam& team, const Sink& sink) {
  if (matrix.tensor.dtype == matrix.target)
    return sink({matrix.data, static_cast<size_t>(matrix.rows * matrix.target_bytes)});
  const int64_t piece = std::clamp<int64_t>(kPieceBytes / 4 / matrix.columns, 1, matrix.rows);
  std::vector<std::byte> bytes(static_cast<size_t>(piece * matrix.target_bytes));
  for (int64_t first = 0; first < matrix.rows; first += piece) {
    const int64_t count = std::min(piece, matrix.rows - first);
    quantize_piece(matrix, first, count, team, bytes.data());
    sink({bytes.data(), static_cast<size_t>(count * matrix.target_bytes)});
  }
}

}  // namespace

std::span<const QuantMix> quant_mixes() { return kMixes; }

const QuantMix& quant_mix_named(std::string_view name) {
  std::string names;
  for (const QuantMix& mix : kMixes) {
    if (mix.name == name) return mix;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", mix.name);
  }
  throw make_error(ErrorCode::invalid_argument, "the type must be one of {}, got {}", names, in_quotes(name));
}

std::vector<DType> quant_plan(std::span<const TensorEntry> tensors, const QuantMix& mix) {
  const ModelShape shape = shape_of(tensors);
  std::vector<DType> plan;
  for (const TensorEntry& tensor : tensors)
    plan.push_back(keeps_float32(tensor)
                       ? DType::f32
                       : fitting_type(wanted_type(tensor, shape, mix), tensor.shape.back()));
  return plan;
}

void quantize_tensor(const WeightFile& file, const TensorEntry& tensor, DType target,
                     compute::cpu::ThreadTeam& team, const Sink& sink) {
  const int64_t columns = tensor.shape.back();
  const int64_t source_bytes = compute::row_bytes(tensor.dtype, columns).value();
  const int64_t matrices = tensor.shape.size() == 3 ? tensor.shape[0] : 1;
  const int64_t rows = tensor.bytes / source_bytes / matrices;
  for (int64_t m = 0; m < matrices; ++m) {
    const TensorData data = matrices > 1 ? file.read_slice(tensor, m) : file.read(tensor);
    quantize_matrix({.tensor = tensor,
                     .data = data.data,
                     .first_row = m * rows,
                     .rows = rows,
                     .target = target,
                     .columns = columns,
                     .source_bytes = source_bytes,
                     .target_bytes = compute::row_bytes(target, columns).value()},
                    team, sink);
  }
}

}  // namespace neutrino::weights
