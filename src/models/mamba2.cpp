#include "models/mamba2.h"

#include "base/error.h"
#include "compute/scratch_bytes.h"

namespace neutrino::models {

using compute::Backend;
using compute::Tensor;

Mamba2Config read_mamba2_config(const weights::WeightFile& file, int64_t hidden_size, float norm_eps) {
  Mamba2Config config{.hidden_size = hidden_size, .norm_eps = norm_eps};
  config.heads = read_size(file, "ssm.time_step_rank", 1, kHeadsMax);
  config.groups = read_size(file, "ssm.group_count", 1, kHeadsMax);
  config.state_size = read_size(file, "ssm.state_size", 1, kHeadsMax);
  config.kernel = read_size(file, "ssm.conv_kernel", 2, 8);
  config.time_step_min = static_cast<float>(read_number_or(file, "ssm.time_step_min", 0, 1e6, 0));
  const int64_t inner = read_size(file, "ssm.inner_size", 1, kHiddenMax);
  if (inner % config.heads != 0 || config.heads % config.groups != 0)
    throw make_error(
        ErrorCode::invalid_argument,
        "ssm.time_step_rank must divide ssm.inner_size and be a multiple of ssm.group_count, got "
        "{}, {} and {}",
        config.heads, inner, config.groups);
  config.head_dim = inner / config.heads;
  return config;
}

Mamba2 load_mamba2(const weights::WeightFile& file, Backend& backend, int64_t layer,
                   const Mamba2Config& config) {
  const auto name = [&](std::string_view part) { return layer_name(layer, part); };
  Mamba2 mamba{.config = &config};
  mamba.input = load_linear(file, backend, name("ssm_in"), config.projection(), config.hidden_size);
  mamba.convolution = read_values(file, name("ssm_conv1d.weight"), config.channels() * config.kernel);
  if (file.find(name("ssm_conv1d.bias")))
    mamba.convolution_bias = read_values(file, name("ssm_conv1d.bias"), config.channels());
  mamba.a = read_values(file, name("ssm_a"), config.heads);
  mamba.d = read_values(file, name("ssm_d"), config.heads);
  mamba.dt_bias = read_values(file, name("ssm_dt.bias"), config.heads);
  mamba.norm = read_values(file, name("ssm_norm.weight"), config.inner());
  mamba.output = load_linear(file, backend, name("ssm_out"), config.hidden_size, config.inner());
  return mamba;
}

namespace {

void normalize_groups(Backend& backend, const Tensor& y, const Mamba2& mamba) {
  const int64_t size = mamba.config->inner() / mamba.config->groups;
  for (int64_t group = 0; group < mamba.config->groups; ++group)
    backend.rms_normalize(
        columns(y, group * size, size),
        std::span(mamba.norm).subspan(static_cast<size_t>(group * size), static_cast<size_t>(size)),
        mamba.config->norm_eps);
}

}  // namespace

void add_mamba2(Backend& backend, const Mamba2& mamba, Tensor& sum, const compute::Activation& x,
                const compute::Batch& batch, compute::KvCache& cache, int64_t state_layer) {
  const Mamba2Config& config = *mamba.config;
  const Tensor all = linear(backend, x, mamba.input);
  const Tensor z = columns(all, 0, config.inner());
  const Tensor xbc = columns(all, config.inner(), config.channels());
  const Tensor dt = columns(all, config.inner() + config.channels(), config.heads);
  const compute::Mamba2Shape shape{.heads = config.heads,
                                   .head_dim = config.head_dim,
                                   .groups = config.groups,
                                   .state_size = config.state_size,
                                   .a = mamba.a,
                                   .d = mamba.d,
                                   .dt_bias = mamba.dt_bias,
                                   .dt_min = config.time_step_min};
  backend.causal_conv1d(xbc, mamba.convolution, mamba.convolution_bias, config.kernel, batch, cache,
                        state_layer, 0);
  const Tensor y =
      backend.mamba2_scan(xbc, dt, shape, batch, cache, state_layer, config.convolution_floats());
  backend.apply(z, compute::Function::silu);
  backend.multiply(y, z);
  normalize_groups(backend, y, mamba);
  linear_add(backend, sum, backend.activation(y), mamba.output);
}

int64_t mamba2_scratch_bytes(const Mamba2Config& config, int64_t rows) {
  return compute::scratch::result(rows, config.projection()) +
         2 * compute::scratch::result(rows, config.inner());
}

}  // namespace neutrino::models
