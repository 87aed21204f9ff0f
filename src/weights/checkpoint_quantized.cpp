#include "weights/checkpoint_quantized.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "weights/checkpoint_parts.h"

namespace neutrino::weights {
namespace {

// What a scheme's tensors are found by. The name that the layout knows is what stands before `found_by`, and `plain`.
struct Scheme {
  std::string_view found_by;
  std::string_view plain;
  MakeSource make;
};

constexpr Scheme kSchemes[] = {
    {".qweight", ".weight", make_gptq_or_awq},
    {".weight_packed", ".weight", make_fp4},
    {".weight_packed", ".weight", make_packed},
    {"_blocks", "", make_mxfp4_blocks},
    {".weight", ".weight", make_bnb},
    {".weight", ".weight", make_fp4},
    {"", "", make_scaled},
};

constexpr std::string_view kMethods[] = {"fp8",         "gptq",     "awq",          "compressed-tensors",
                                         "mxfp4",       "modelopt", "bitsandbytes", "fbgemm_fp8",
                                         "modelopt_fp4"};

// Beside the weights: scales of activations and of the cache, which are computed in higher precision here.
constexpr std::string_view kUnused[] = {".input_scale",      ".activation_scale", ".input_global_scale",
                                        ".input_zero_point", ".output_scale",     ".k_scale",
                                        ".v_scale",          ".q_scale",          ".prob_output_scale",
                                        ".input_scale_ub"};

const json::object* object_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_object() ? &value->get_object() : nullptr;
}

const json::object* quantization_of(const json::object& config) {
  for (const char* name : {"quantization_config", "compression_config"})
    if (const json::object* found = object_at(config, name)) return found;
  const json::object* text = object_at(config, "text_config");
  return text ? quantization_of(*text) : nullptr;
}

std::string text_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

int64_t integer_in(const json::value* value, int64_t low, int64_t high, int64_t fallback,
                   std::string_view name) {
  if (!value || value->is_null()) return fallback;
  if (!value->is_int64() || value->get_int64() < low || value->get_int64() > high)
    throw refuse("quantization", "config.json: {} of quantization_config must be {} to {}, got {}", name, low,
                 high, printable(to_text(*value), 40));
  return value->get_int64();
}

// [rows, columns] of a block, as FP8 checkpoints have it; compressed-tensors calls it block_structure.
void read_block_size(const json::object& quantization, QuantizationConfig& config) {
  const json::value* size = quantization.if_contains("weight_block_size");
  if (const json::object* groups = object_at(quantization, "config_groups"))
    for (const auto& [name, group] : *groups)
      if (const json::object* weights =
              group.is_object() ? object_at(group.get_object(), "weights") : nullptr)
        if (const json::value* structure = weights->if_contains("block_structure");
            structure && structure->is_array())
          size = structure;
  if (!size || !size->is_array()) return;
  const json::array& pair = size->get_array();
  if (pair.size() != 2) throw refuse("quantization", "config.json: a block size must be two numbers");
  config.block_rows = integer_in(&pair[0], 1, 1 << 20, 128, "weight_block_size");
  config.block_columns = integer_in(&pair[1], 1, 1 << 20, 128, "weight_block_size");
}

// What changes the values in ways that their parts do not show.
void refuse_unknown(const json::object& quantization, const std::string& method) {
  const auto unknown = [](std::string_view what) {
    throw make_error(
        ErrorCode::unimplemented,
        "config.json: the checkpoint is quantised with {}, which is not read; read are FP8, GPTQ, AWQ, "
        "compressed-tensors, MXFP4, NVFP4 and bitsandbytes' 4 bits",
        what)
        .with_reason("quantization");
  };
  if (!method.empty() && std::find(std::begin(kMethods), std::end(kMethods), method) == std::end(kMethods))
    unknown(in_quotes(method));
  if (const json::object* sparsity = object_at(quantization, "sparsity_config"))
    if (const std::string format = text_at(*sparsity, "format"); !format.empty() && format != "dense")
      unknown("sparsity " + in_quotes(format));
  if (const json::object* transform = object_at(quantization, "transform_config"))
    if (const json::object* groups = object_at(*transform, "config_groups"); groups && !groups->empty())
      unknown("rotated weights");
}

QuantizationConfig read_config(const json::object& config) {
  QuantizationConfig read;
  const json::object* quantization = quantization_of(config);
  if (!quantization) return read;
  read.method = text_at(*quantization, "quant_method");
  refuse_unknown(*quantization, read.method);
  read.checkpoint_format = text_at(*quantization, "checkpoint_format");
  read.bits = integer_in(quantization->if_contains("bits"), 1, 16, 4, "bits");
  read.group_size = integer_in(quantization->if_contains("group_size"), -1, 1 << 20, 128, "group_size");
  if (const std::string version = text_at(*quantization, "version"); read.method == "awq" && !version.empty())
    if (std::string lower = version;
        std::transform(lower.begin(), lower.end(), lower.begin(), ::tolower), lower != "gemm")
      throw make_error(ErrorCode::unimplemented, "config.json: AWQ's version {} is not read, only gemm",
                       in_quotes(version))
          .with_reason("quantization");
  read_block_size(*quantization, read);
  return read;
}

bool ends_with_any(std::string_view name, std::span<const std::string_view> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

}  // namespace

Sources take_quantized(Parts& parts, const json::object& config) {
  const QuantizationConfig quantization = read_config(config);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : parts) names.push_back(name);
  Sources sources;
  for (const Scheme& scheme : kSchemes)
    for (const std::string& name : names) {
      if (!name.ends_with(scheme.found_by) || !parts.contains(name)) continue;
      PartFinder finder(parts, name.substr(0, name.size() - scheme.found_by.size()));
      std::unique_ptr<Source> source = scheme.make(finder, quantization);
      if (!source) continue;
      const std::string plain = finder.base() + std::string(scheme.plain);
      if (parts.contains(plain) || !sources.emplace(plain, std::move(source)).second)
        throw refuse("quantization", "the checkpoint has tensor {} both quantised and not", in_quotes(plain));
    }
  if (!sources.empty() || !quantization.method.empty())
    std::erase_if(parts, [](const auto& part) { return ends_with_any(part.first, kUnused); });
  return sources;
}

// ---- parts

const StTensor* PartFinder::find(std::string_view suffix) const {
  const auto found = parts_.find(base_ + std::string(suffix));
  return found == parts_.end() ? nullptr : found->second;
}

const StTensor* PartFinder::take(std::string_view suffix) {
  const StTensor* part = find(suffix);
  if (part) parts_.erase(base_ + std::string(suffix));
  return part;
}

const StTensor& PartFinder::require(std::string_view suffix) {
  const StTensor* part = take(suffix);
  if (!part)
    throw refuse("quantization", "the checkpoint has no tensor {}, a part of a quantised one",
                 in_quotes(base_ + std::string(suffix)));
  return *part;
}

void check_type(const StTensor& tensor, std::initializer_list<StType> types) {
  if (std::find(types.begin(), types.end(), tensor.type) == types.end())
    throw refuse("quantization", "tensor {} must be of dtype {}, got {}", in_quotes(tensor.name),
                 st_type_name(*types.begin()), st_type_name(tensor.type));
}

void check_shape(const StTensor& tensor, std::span<const int64_t> shape) {
  if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end()))
    throw refuse("quantization", "tensor {} must have shape {}, got {}", in_quotes(tensor.name),
                 shape_text(shape), shape_text(tensor.shape));
}

compute::DType scale_dtype(const StTensor& scales) {
  check_type(scales, {StType::f32, StType::f16, StType::bf16});
  return scales.type == StType::f32   ? compute::DType::f32
         : scales.type == StType::f16 ? compute::DType::f16
                                      : compute::DType::bf16;
}

float float_at(const StTensor& tensor, int64_t i) {
  switch (tensor.type) {
    case StType::f32: return number_at<float>(tensor, i);
    case StType::f16: return compute::f16_to_f32(number_at<uint16_t>(tensor, i));
    case StType::bf16: return compute::bf16_to_f32(number_at<uint16_t>(tensor, i));
    default: check(false, "scale_dtype() has seen the type"); return 0;
  }
}

std::vector<float> floats_of(const StTensor& tensor) {
  std::vector<float> values;
  for (int64_t i = 0; i < tensor.elements(); ++i) values.push_back(float_at(tensor, i));
  return values;
}

Output::Output(compute::DType dtype, int64_t elements)
    : dtype_(dtype),
      bytes_(new std::byte[static_cast<size_t>(std::max<int64_t>(elements, 1) *
                                               compute::dtype_info(dtype).block_bytes)]) {}

}  // namespace neutrino::weights
