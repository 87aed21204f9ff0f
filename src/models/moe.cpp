#include "models/moe.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/limits.h"
#include "compute/scratch_bytes.h"

namespace neutrino::models {

using compute::Activation;
using compute::Backend;
using compute::Gating;
using compute::Tensor;
using compute::WeightView;

namespace {

constexpr int64_t kGroupsMax = 64;  // that Backend::route() takes

Gating read_gating(const weights::WeightFile& file, Gating fallback) {
  constexpr std::array kGatings = {Gating::softmax, Gating::sigmoid, Gating::softmax_of_selected};  // 1, 2, 3
  const int64_t number = read_size_or(file, "expert_gating_func", 0, 4, 0);
  if (number == 0) return fallback;
  if (number > static_cast<int64_t>(kGatings.size()))
    throw make_error(ErrorCode::unimplemented, "expert_gating_func must be 1, 2 or 3, got {}", number);
  return kGatings[static_cast<size_t>(number - 1)];
}

// What route() takes for granted.
void check_router(const compute::RouterShape& router) {
  const auto refuse = [](std::string_view what, int64_t value, std::string_view expected, int64_t limit) {
    throw make_error(ErrorCode::invalid_argument, "{} must be {} {}, got {}", what, expected, limit, value);
  };
  if (router.experts_used > router.experts)
    refuse("expert_used_count", router.experts_used, "at most expert_count,", router.experts);
  if (router.groups > kGroupsMax) refuse("expert_group_count", router.groups, "at most", kGroupsMax);
  if (router.experts % router.groups != 0)
    refuse("expert_count", router.experts, "a multiple of expert_group_count,", router.groups);
  if (router.groups_used > router.groups)
    refuse("expert_group_used_count", router.groups_used, "at most expert_group_count,", router.groups);
  const int64_t in_group = router.experts / router.groups;
  if (router.experts_used > router.groups_used * in_group)
    refuse("expert_used_count", router.experts_used, "at most the experts of the groups used,",
           router.groups_used * in_group);
  if (router.groups > 1 && router.group_score == compute::GroupScore::sum_of_two && in_group < 2)
    refuse("experts in a group", in_group, "at least", 2);
}

std::vector<float> read_optional(const weights::WeightFile& file, const std::string& name, int64_t size) {
  return file.find(name) ? file.vector(name, size) : std::vector<float>();
}

// gate and up, from two tensors or from one that holds gate above up; no gate if the file has none.
void read_gates(const weights::WeightFile& file, int64_t layer, const MoeConfig& config,
                compute::ExpertWeights& weights) {
  const int64_t experts = config.router.experts, rows = config.moe_intermediate_size,
                columns = config.expert_hidden_size;
  const std::string fused = layer_name(layer, "ffn_gate_up_exps.weight");
  if (file.find(fused)) {
    for (const WeightView& both : file.matrices(fused, experts, 2 * rows, columns)) {
      weights.gate.push_back(matrix_rows(both, 0, rows));
      weights.up.push_back(matrix_rows(both, rows, rows));
    }
    return;
  }
  const std::string gate = layer_name(layer, "ffn_gate_exps.weight");
  if (file.find(gate)) weights.gate = file.matrices(gate, experts, rows, columns);
  weights.up = file.matrices(layer_name(layer, "ffn_up_exps.weight"), experts, rows, columns);
}

// (experts, rows) in the file.
std::vector<float> read_expert_bias(const weights::WeightFile& file, int64_t layer, std::string_view part,
                                    int64_t experts, int64_t rows) {
  const std::string name = layer_name(layer, fmt::format("{}.bias", part));
  return file.find(name) ? load_float_matrix(file, name, experts, rows) : std::vector<float>();
}

void load_experts(const weights::WeightFile& file, Backend& backend, int64_t layer, Moe& moe) {
  const MoeConfig& config = *moe.config;
  const int64_t experts = config.router.experts;
  const auto gate_bias =
      read_expert_bias(file, layer, "ffn_gate_exps", experts, config.moe_intermediate_size);
  const auto up_bias = read_expert_bias(file, layer, "ffn_up_exps", experts, config.moe_intermediate_size);
  const auto down_bias = read_expert_bias(file, layer, "ffn_down_exps", experts, config.expert_hidden_size);
  compute::ExpertWeights weights;
  weights.function = config.function;
  weights.gate_bias = gate_bias;
  weights.up_bias = up_bias;
  weights.down_bias = down_bias;
  read_gates(file, layer, config, weights);
  if (weights.gate.empty() && config.function == compute::Function::swiglu_oai)
    throw make_error(ErrorCode::invalid_argument, "layer {} has experts without a gate, which swiglu needs",
                     layer);
  weights.down = file.matrices(layer_name(layer, "ffn_down_exps.weight"), experts, config.expert_hidden_size,
                               config.moe_intermediate_size);
  moe.experts = backend.load_experts(weights);
}

void load_latent(const weights::WeightFile& file, Backend& backend, int64_t layer, Moe& moe) {
  const MoeConfig& config = *moe.config;
  if (config.expert_hidden_size == config.hidden_size) return;
  moe.latent_down = load_linear(file, backend, layer_name(layer, "ffn_latent_down"),
                                config.expert_hidden_size, config.hidden_size, Bias::none);
  moe.latent_up = load_linear(file, backend, layer_name(layer, "ffn_latent_up"), config.hidden_size,
                              config.expert_hidden_size, Bias::none);
}

void load_shared(const weights::WeightFile& file, Backend& backend, int64_t layer, Moe& moe) {
  const std::string up = layer_name(layer, "ffn_up_shexp.weight");
  const weights::TensorEntry* entry = file.find(up);
  if (entry == nullptr) return;
  const auto& sizes = moe.config->shared_intermediate_sizes;
  const int64_t hidden = moe.config->hidden_size, rows = entry->shape.front();
  if (rows < 1 || std::ranges::find(sizes, rows) == sizes.end())
    throw make_error(ErrorCode::invalid_argument, "tensor {} must have {} or {} rows, got {}", up, sizes[0],
                     sizes[1], rows);
  const std::string gate = layer_name(layer, "ffn_gate_shexp.weight");
  if (file.find(gate))
    moe.shared_gate_up = backend.load_gate_up(file.matrix(gate, rows, hidden), file.matrix(up, rows, hidden));
  else
    moe.shared_up = load_linear(file, backend, layer_name(layer, "ffn_up_shexp"), rows, hidden, Bias::none);
  moe.shared_down = load_linear(file, backend, layer_name(layer, "ffn_down_shexp"), hidden, rows, Bias::none);
  moe.shared_expert_gate = read_optional(file, layer_name(layer, "ffn_gate_inp_shexp.weight"), hidden);
}

void add_experts(Backend& backend, const Moe& moe, Tensor& sum, const Activation& x,
                 const compute::Routing& routing) {
  if (!moe.latent_down.weight) return backend.experts_add(sum, x, *moe.experts, routing);
  const Activation latent = backend.activation(linear(backend, x, moe.latent_down));
  Tensor y = backend.zeros(sum.rows, moe.config->expert_hidden_size);
  backend.experts_add(y, latent, *moe.experts, routing);
  linear_add(backend, sum, backend.activation(y), moe.latent_up);
}

Activation shared_intermediate(Backend& backend, const Moe& moe, const Activation& x) {
  if (moe.shared_gate_up) return backend.gated_matmul(x, *moe.shared_gate_up, moe.config->function);
  const Tensor up = linear(backend, x, moe.shared_up);
  backend.apply(up, moe.config->function);
  return backend.activation(up);
}

void add_shared(Backend& backend, const Moe& moe, Tensor& sum, const Tensor& x,
                const Activation& activation) {
  if (!moe.shared_down.weight) return;
  const Activation y = shared_intermediate(backend, moe, activation);
  if (moe.shared_expert_gate.empty()) return linear_add(backend, sum, y, moe.shared_down);
  const Tensor gate = backend.matmul_float(x, moe.shared_expert_gate, 1);
  backend.apply(gate, compute::Function::sigmoid);
  const Tensor shared = linear(backend, y, moe.shared_down);
  backend.multiply(shared, gate);
  backend.add(sum, shared);
}

}  // namespace

MoeConfig read_moe_config(const weights::WeightFile& file, int64_t hidden_size, const MoeDefaults& defaults) {
  MoeConfig config;
  compute::RouterShape& router = config.router;
  router.experts = read_size(file, "expert_count", 1, limits::kExperts);
  router.experts_used = read_size(file, "expert_used_count", 1, limits::kExperts);
  router.gating = read_gating(file, defaults.gating);
  router.groups = std::max<int64_t>(1, read_size_or(file, "expert_group_count", 0, limits::kExperts, 1));
  router.groups_used =
      std::max<int64_t>(1, read_size_or(file, "expert_group_used_count", 0, limits::kExperts, router.groups));
  router.group_score =
      router.gating == Gating::softmax ? compute::GroupScore::largest : compute::GroupScore::sum_of_two;
  router.normalize = read_flag_or(file, "expert_weights_norm", defaults.normalize);
  router.weights_min = defaults.weights_min;
  const double scale = read_number_or(file, "expert_weights_scale", -1e6, 1e6, 1);
  router.scale = scale == 0 ? 1 : static_cast<float>(scale);
  check_router(router);
  config.function = defaults.function;
  config.hidden_size = hidden_size;
  config.expert_hidden_size = read_size_or(file, "moe_latent_size", 1, kHiddenMax, hidden_size);
  config.moe_intermediate_size = read_size(file, "expert_feed_forward_length", 1, kHiddenMax);
  config.shared_intermediate_sizes = {
      read_size_or(file, "expert_shared_count", 0, limits::kExperts, 0) * config.moe_intermediate_size,
      read_size_or(file, "expert_shared_feed_forward_length", 0, kHiddenMax, 0)};
  return config;
}

bool has_moe(const weights::WeightFile& file, int64_t layer) {
  return file.find(layer_name(layer, "ffn_gate_inp.weight")) != nullptr;
}

std::unique_ptr<Moe> load_moe(const weights::WeightFile& file, Backend& backend, int64_t layer,
                              const MoeConfig& config) {
  auto moe = std::make_unique<Moe>();
  moe->config = &config;
  const int64_t experts = config.router.experts;
  moe->router =
      load_float_matrix(file, layer_name(layer, "ffn_gate_inp.weight"), experts, config.hidden_size);
  moe->router_bias = read_optional(file, layer_name(layer, "ffn_gate_inp.bias"), experts);
  moe->selection_bias = read_optional(file, layer_name(layer, "exp_probs_b.bias"), experts);
  load_experts(file, backend, layer, *moe);
  load_latent(file, backend, layer, *moe);
  load_shared(file, backend, layer, *moe);
  return moe;
}

void add_moe(Backend& backend, const Moe& moe, Tensor& sum, const Tensor& x) {
  const Tensor logits = backend.matmul_float(x, moe.router, moe.config->router.experts);
  if (!moe.router_bias.empty()) backend.add_bias(logits, moe.router_bias);
  compute::RouterShape router = moe.config->router;
  router.bias = moe.selection_bias;
  const compute::Routing routing = backend.route(logits, router);
  const Activation activation = backend.activation(x);
  add_experts(backend, moe, sum, activation, routing);
  add_shared(backend, moe, sum, x, activation);
}

FeedForward load_feed_forward(const weights::WeightFile& file, Backend& backend, int64_t layer,
                              const ModelConfig& config, const MoeConfig& moe, std::string_view norm_name) {
  FeedForward feed_forward;
  feed_forward.norm = file.vector(layer_name(layer, fmt::format("{}.weight", norm_name)), config.hidden_size);
  if (has_moe(file, layer))
    feed_forward.moe = load_moe(file, backend, layer, moe);
  else
    feed_forward.mlp = load_gated_mlp(file, backend, layer, config.hidden_size, config.intermediate_size);
  return feed_forward;
}

void add_feed_forward(Backend& backend, const FeedForward& feed_forward, Tensor& x, float eps) {
  if (!feed_forward.moe) {
    const Activation normed = backend.rms_norm(x, feed_forward.norm, eps);
    return linear_add(backend, x, gated(backend, feed_forward.mlp, normed), feed_forward.mlp.down);
  }
  const Tensor normed = backend.copy(x);
  backend.rms_normalize(normed, feed_forward.norm, eps);
  add_moe(backend, *feed_forward.moe, x, normed);
}

int64_t moe_scratch_bytes(const MoeConfig& config, int64_t rows) {
  namespace scratch = compute::scratch;
  const compute::RouterShape& router = config.router;
  const int64_t shared = *std::ranges::max_element(config.shared_intermediate_sizes);
  return 3 * scratch::result(rows, config.hidden_size) +
         3 * scratch::result(rows, config.expert_hidden_size) + scratch::result(rows, router.experts) +
         scratch::route(rows, router.experts, router.experts_used) +
         scratch::experts_add(rows, router.experts, router.experts_used, config.expert_hidden_size,
                              config.moe_intermediate_size) +
         3 * scratch::result(rows, shared) + scratch::result(rows, 1);
}

int64_t token_weight_bytes(const weights::WeightFile& file, const MoeConfig& config) {
  if (config.router.experts == 0) return token_weight_bytes(file);
  int64_t idle = 0;
  for (const weights::TensorEntry& tensor : file.tensors())
    if (tensor.name.find("_exps.") != std::string::npos)
      idle += tensor.bytes / config.router.experts * (config.router.experts - config.router.experts_used);
  return token_weight_bytes(file) - idle;
}

}  // namespace neutrino::models
