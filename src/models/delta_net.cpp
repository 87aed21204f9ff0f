#include "models/delta_net.h"

#include <algorithm>

#include "base/error.h"
#include "compute/constants.h"
#include "compute/scratch_bytes.h"
#include "models/layers.h"

namespace neutrino::models {

using compute::Backend;
using compute::Tensor;
using compute::WeightView;

namespace {

// Of each key head `head_rows` rows; takes rows [first, first + count) of each head's.
void append_of_key_heads(std::vector<WeightView>& parts, const WeightView& matrix,
                         const DeltaNetConfig& config, int64_t head_rows, int64_t first, int64_t count) {
  for (int64_t head = 0; head < config.key_heads; ++head)
    parts.push_back(matrix_rows(matrix, head * head_rows + first, count));
}

// The value heads' rows in our order, `rows` each; `begin(head)` is the first row of value head `head` of the file.
template <typename Begin>
void append_of_value_heads(std::vector<WeightView>& parts, const WeightView& matrix,
                           const DeltaNetConfig& config, int64_t rows, Begin begin) {
  for (int64_t head = 0; head < config.value_heads; ++head)
    parts.push_back(matrix_rows(matrix, begin(config.file_head(head)), rows));
}

// q, k, v in our order, z in the file's.
void append_qkvz(std::vector<WeightView>& parts, const weights::WeightFile& file, int64_t layer,
                 const DeltaNetConfig& config) {
  const std::string fused = layer_name(layer, "ssm_in.weight");
  const int64_t key = config.key_dim, value = config.value_dim, keys = config.keys();
  if (!file.find(fused)) {
    const WeightView qkv =
        file.matrix(layer_name(layer, "attn_qkv.weight"), config.channels(), config.hidden_size);
    parts.push_back(matrix_rows(qkv, 0, 2 * keys));
    append_of_value_heads(parts, qkv, config, value, [&](int64_t head) { return 2 * keys + head * value; });
    parts.push_back(file.matrix(layer_name(layer, "attn_gate.weight"), config.values(), config.hidden_size));
    return;
  }
  const WeightView all = file.matrix(fused, config.channels() + config.values(), config.hidden_size);
  const int64_t group = config.value_heads / config.key_heads, head_rows = 2 * key + 2 * group * value;
  append_of_key_heads(parts, all, config, head_rows, 0, key);
  append_of_key_heads(parts, all, config, head_rows, key, key);
  append_of_value_heads(parts, all, config, value, [&](int64_t head) {
    return head / group * head_rows + 2 * key + head % group * value;
  });
  append_of_key_heads(parts, all, config, head_rows, 2 * key + group * value, group * value);
}

void append_beta_and_alpha(std::vector<WeightView>& parts, const weights::WeightFile& file, int64_t layer,
                           const DeltaNetConfig& config) {
  const int64_t heads = config.value_heads, hidden = config.hidden_size;
  const std::string fused = layer_name(layer, "ssm_ba.weight");
  if (!file.find(fused)) {
    for (const char* part : {"ssm_beta.weight", "ssm_alpha.weight"})
      append_of_value_heads(parts, file.matrix(layer_name(layer, part), heads, hidden), config, 1,
                            [](int64_t head) { return head; });
    return;
  }
  const WeightView both = file.matrix(fused, 2 * heads, hidden);
  const int64_t group = heads / config.key_heads;
  for (const int64_t first : {int64_t{0}, group})
    append_of_value_heads(parts, both, config, 1,
                          [&](int64_t head) { return head / group * 2 * group + first + head % group; });
}

// `values` has `width` elements for each value head behind `before` others; returns them in our order.
std::vector<float> in_our_order(const std::vector<float>& values, const DeltaNetConfig& config, int64_t width,
                                int64_t before = 0) {
  std::vector<float> ordered = values;
  for (int64_t head = 0; head < config.value_heads; ++head)
    std::copy_n(values.begin() + before + config.file_head(head) * width, width,
                ordered.begin() + before + head * width);
  return ordered;
}

// The heads of y as the file has them.
Tensor in_file_order(Backend& backend, const Tensor& y, const DeltaNetConfig& config) {
  if (config.order == ValueHeads::dealt_out || config.key_heads == 1) return y;
  const Tensor ordered = backend.zeros(y.rows, y.columns);
  for (int64_t head = 0; head < config.value_heads; ++head)
    backend.add(columns(ordered, config.file_head(head) * config.value_dim, config.value_dim),
                columns(y, head * config.value_dim, config.value_dim));
  return ordered;
}

}  // namespace

int64_t DeltaNetConfig::file_head(int64_t head) const {
  if (order == ValueHeads::dealt_out) return head;
  return head % key_heads * (value_heads / key_heads) + head / key_heads;
}

DeltaNetConfig read_delta_net_config(const weights::WeightFile& file, int64_t hidden_size, float norm_eps,
                                     ValueHeads order) {
  DeltaNetConfig config{.hidden_size = hidden_size, .order = order, .norm_eps = norm_eps};
  config.key_heads = read_size(file, "ssm.group_count", 1, kHeadsMax);
  config.value_heads = read_size(file, "ssm.time_step_rank", 1, kHeadsMax);
  config.key_dim = read_size(file, "ssm.state_size", 1, kHeadsMax);
  config.kernel = read_size(file, "ssm.conv_kernel", 2, 8);
  const int64_t inner = read_size(file, "ssm.inner_size", 1, kHiddenMax);
  if (config.value_heads % config.key_heads != 0 || inner % config.value_heads != 0)
    throw make_error(
        ErrorCode::invalid_argument,
        "ssm.time_step_rank must be a multiple of ssm.group_count and divide ssm.inner_size, got "
        "{}, {} and {}",
        config.value_heads, config.key_heads, inner);
  config.value_dim = inner / config.value_heads;
  if (config.value_dim > compute::kHeadDimMax)
    throw make_error(ErrorCode::unimplemented, "ssm.inner_size must be at most {} a value head, got {}",
                     compute::kHeadDimMax, config.value_dim);
  return config;
}

DeltaNet load_delta_net(const weights::WeightFile& file, Backend& backend, int64_t layer,
                        const DeltaNetConfig& config) {
  std::vector<WeightView> parts;
  append_qkvz(parts, file, layer, config);
  append_beta_and_alpha(parts, file, layer, config);
  DeltaNet net{.config = &config};
  net.input = backend.load_matrix(parts);
  const auto values = [&](const char* part, int64_t size) {
    return read_values(file, layer_name(layer, part), size);
  };
  net.convolution = in_our_order(values("ssm_conv1d.weight", config.channels() * config.kernel), config,
                                 config.value_dim * config.kernel, 2 * config.keys() * config.kernel);
  net.a = in_our_order(values("ssm_a", config.value_heads), config, 1);
  net.dt_bias = in_our_order(values("ssm_dt.bias", config.value_heads), config, 1);
  net.norm = file.vector(layer_name(layer, "ssm_norm.weight"), config.value_dim);
  const WeightView out =
      file.matrix(layer_name(layer, "ssm_out.weight"), config.hidden_size, config.values());
  net.output = backend.load_matrix({&out, 1});
  return net;
}

void add_delta_net(Backend& backend, const DeltaNet& net, Tensor& sum, const compute::Activation& x,
                   const compute::Batch& batch, compute::KvCache& cache, int64_t state_layer) {
  const DeltaNetConfig& config = *net.config;
  const int64_t channels = config.channels(), values = config.values(), heads = config.value_heads;
  const Tensor all = backend.matmul(x, *net.input);
  const Tensor qkv = columns(all, 0, channels), z = columns(all, channels, values);
  const Tensor beta = columns(all, channels + values, heads);
  const Tensor alpha = columns(all, channels + values + heads, heads);
  const compute::DeltaNetShape shape{.key_heads = config.key_heads,
                                     .value_heads = heads,
                                     .key_dim = config.key_dim,
                                     .value_dim = config.value_dim,
                                     .a = net.a,
                                     .dt_bias = net.dt_bias};
  backend.causal_conv1d(qkv, net.convolution, {}, config.kernel, batch, cache, state_layer, 0);
  const Tensor y = backend.gated_delta_net(qkv, alpha, beta, shape, batch, cache, state_layer,
                                           config.convolution_floats());
  backend.rms_normalize(y, net.norm, config.norm_eps);
  const Tensor gated = in_file_order(backend, y, config);
  backend.apply(z, compute::Function::silu);
  backend.multiply(gated, z);
  backend.matmul_add(sum, backend.activation(gated), *net.output);
}

int64_t delta_net_scratch_bytes(const DeltaNetConfig& config, int64_t rows) {
  return compute::scratch::result(rows, config.channels() + config.values() + 2 * config.value_heads) +
         compute::scratch::gated_delta_net(rows, config.key_heads, config.key_dim, config.value_heads,
                                           config.value_dim) +
         2 * compute::scratch::result(rows, config.values());
}

}  // namespace neutrino::models
