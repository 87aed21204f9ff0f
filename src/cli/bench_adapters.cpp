#include "cli/bench_adapters.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "cli/model_runner.h"

namespace neutrino::cli {
namespace {

bool is_target(std::string_view tensor, std::string_view targets) {
  const auto any = [&](std::initializer_list<std::string_view> parts) {
    return std::ranges::any_of(parts, [&](std::string_view part) { return tensor.ends_with(part); });
  };
  if (!tensor.starts_with("blk.")) return false;
  if (targets == "qv") return any({".attn_q.weight", ".attn_v.weight"});
  if (any({".attn_q.weight", ".attn_k.weight", ".attn_v.weight", ".attn_qkv.weight", ".attn_output.weight"}))
    return true;
  return targets == "all" && any({".ffn_gate.weight", ".ffn_up.weight", ".ffn_down.weight"});
}

std::unique_ptr<compute::Adapter> random_adapter(const weights::WeightFile& file, compute::Backend& backend,
                                                 const AdapterBench& bench, Random& random) {
  std::vector<std::vector<float>> values;
  std::vector<compute::LowRankUpdate> updates;
  for (const weights::TensorEntry& tensor : file.tensors()) {
    if (tensor.shape.size() != 2 || !is_target(tensor.name, bench.targets)) continue;
    for (const int64_t size : {tensor.shape[1], tensor.shape[0]}) {
      std::vector<float>& matrix = values.emplace_back(static_cast<size_t>(size * bench.rank));
      for (float& value : matrix) value = 0.02f * static_cast<float>(2 * random.uniform() - 1);
    }
    updates.push_back({tensor.name, tensor.shape[0], tensor.shape[1], bench.rank, {}, {}});
  }
  if (updates.empty())
    throw make_error(ErrorCode::invalid_argument, "the model has no tensor for --adapter-targets {}",
                     bench.targets);
  for (size_t i = 0; i < updates.size(); ++i) updates[i].a = values[2 * i], updates[i].b = values[2 * i + 1];
  return backend.load_adapter(updates);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Of one round, on the wall's clock and of processor time (which says more on a machine that others use, with one thread).
struct Speed {
  double tokens_per_second, tokens_per_processor_second;
};

Speed decode(ModelRunner& runner, const models::Model& model, const AdapterBench& bench,
             const std::vector<const compute::Adapter*>& adapters) {
  Random random(1);
  const auto tokens = [&](int64_t count) {
    std::vector<std::vector<int32_t>> all(static_cast<size_t>(bench.adapters));
    for (auto& one : all)
      for (int64_t i = 0; i < count; ++i)
        one.push_back(static_cast<int32_t>(random.below(model.config().vocab_size)));
    return all;
  };
  runner.clear();
  runner.set_adapters(adapters);
  runner.forward(0, tokens(bench.context), ModelRunner::Outputs::last);
  runner.forward(0, tokens(1), ModelRunner::Outputs::last);
  const SystemClock clock;
  const int64_t start = clock.now_ns();
  const std::clock_t processor_start = std::clock();
  for (int64_t i = 0; i < bench.steps; ++i) runner.forward(0, tokens(1), ModelRunner::Outputs::last);
  const auto made = static_cast<double>(bench.adapters * bench.steps);
  return {made * 1e9 / static_cast<double>(clock.now_ns() - start),
          made * CLOCKS_PER_SEC / static_cast<double>(std::clock() - processor_start)};
}

}  // namespace

void bench_adapters(const weights::WeightFile& file, const models::Model& model, compute::Backend& backend,
                    const AdapterBench& bench) {
  Random random(7);
  std::vector<std::unique_ptr<compute::Adapter>> loaded;
  std::vector<const compute::Adapter*> adapters;
  for (int64_t i = 0; i < bench.adapters; ++i) {
    loaded.push_back(random_adapter(file, backend, bench, random));
    adapters.push_back(loaded.back().get());
  }
  ModelRunner runner(model, backend, bench.adapters, bench.context + bench.steps + 1,
                     bench.adapters * bench.context, bench.adapters, compute::KvType::bf16, bench.rank);
  std::vector<double> base, with, ratios, processor_ratios;
  for (int64_t round = 0; round < bench.rounds; ++round) {
    const Speed without = decode(runner, model, bench, {}), changed = decode(runner, model, bench, adapters);
    base.push_back(without.tokens_per_second);
    with.push_back(changed.tokens_per_second);
    ratios.push_back(with.back() / base.back());
    processor_ratios.push_back(changed.tokens_per_processor_second / without.tokens_per_processor_second);
  }
  if (bench.as_json) {
    std::puts(to_text(json::object{{"adapters", bench.adapters},
                                   {"rank", bench.rank},
                                   {"targets", bench.targets},
                                   {"adapter_bytes", loaded[0]->bytes()},
                                   {"base_tokens_per_second", median(base)},
                                   {"adapters_tokens_per_second", median(with)},
                                   {"ratio", median(ratios)},
                                   {"processor_time_ratio", median(processor_ratios)},
                                   {"ratios", json::array(ratios.begin(), ratios.end())}})
                  .c_str());
    return;
  }
  std::printf(
      "batch of %lld, rank %lld on %s, %.1f MB an adapter, %lld rounds\n"
      "base      %10.1f tokens/s\nadapters  %10.1f tokens/s\nratio     %10.3f (%.3f to %.3f)\n"
      "          %10.3f (%.3f to %.3f) in processor time\n",
      static_cast<long long>(bench.adapters), static_cast<long long>(bench.rank), bench.targets.c_str(),
      static_cast<double>(loaded[0]->bytes()) / 1e6, static_cast<long long>(bench.rounds), median(base),
      median(with), median(ratios), std::ranges::min(ratios), std::ranges::max(ratios),
      median(processor_ratios), std::ranges::min(processor_ratios), std::ranges::max(processor_ratios));
}

}  // namespace neutrino::cli
