// The same request gives the same bits whatever runs beside it: alone or in a batch, its prompt in one piece or in many, from
// the prefix cache or not, preempted or not, on one thread or two; for every kernel table of this CPU.
//
// Bits are ids and log probabilities (of the token and of two alternatives): a difference anywhere in the model shows in the
// latter long before it changes an id. The real model comes from NEUTRINO_TEST_MODEL; NEUTRINO_TEST_LONG=1 makes it the
// full 32 prompts of 8 to 600 tokens with 64 generated each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "base/random.h"
#include "base/sha256.h"
#include "compute/testing/forwarding_backend.h"
#include "engine/engine.h"
#include "engine/testing/loaded_model.h"
#include "models/testing/golden_case.h"

namespace neutrino::engine {
namespace {

using chat::GenerationRequest;
using testing::LoadedModel;
using testing::tiny_model_path;

// Everything that a request produced, as bits.
using Transcript = std::vector<uint32_t>;

struct Workload {
  int64_t requests = 0, prompt_min = 0, prompt_max = 0, max_tokens = 0;
};

// Prompt lengths are spread evenly; every second prompt begins like its neighbour, and every second is sampled.
std::vector<GenerationRequest> make_requests(const Workload& workload, int64_t vocab_size) {
  Random random(2026);
  const auto random_tokens = [&](int64_t count) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(random.below(vocab_size)));
    return tokens;
  };
  const std::vector<int32_t> shared = random_tokens(workload.prompt_max);
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < workload.requests; ++i) {
    const int64_t size =
        workload.prompt_min + (workload.prompt_max - workload.prompt_min) * i / (workload.requests - 1);
    std::vector<int32_t> prompt = random_tokens(size);
    if (i % 4 < 2) std::copy_n(shared.begin(), size / 2, prompt.begin());
    chat::SamplingParameters sampling{
        .temperature = 0, .ignore_eos = true, .max_tokens = workload.max_tokens, .logprobs = 2};
    if (i % 2 == 1) {
      sampling.temperature = 0.9;
      sampling.top_p = i % 4 == 1 ? 0.95 : 1;
      sampling.presence_penalty = i % 8 == 3 ? 0.5 : 0;
      sampling.seed = 1000 + static_cast<uint64_t>(i);
    }
    requests.push_back(
        {.id = std::to_string(i), .prompt = std::move(prompt), .sampling = std::move(sampling)});
  }
  std::swap(requests.front(),
            requests.back());  // the longest comes first, the shortest while it is being computed
  return requests;
}

Transcript transcript(const Sequence& sequence) {
  Transcript bits;
  const auto add = [&](const chat::TokenLogprob& entry) {
    bits.push_back(static_cast<uint32_t>(entry.token));
    bits.push_back(std::bit_cast<uint32_t>(entry.logprob));
  };
  for (int64_t i = 0; i < sequence.stream.size(); ++i) {
    add(sequence.stream.record(i));
    std::ranges::for_each(sequence.stream.top(i), add);
  }
  return bits;
}

struct Setup {
  const char* name;
  EngineOptions options;
  int64_t threads = 2;
  int64_t rounds = 1;    // the second finds the first one's prompts in the prefix cache
  bool cancels = false;  // every third request, after some steps
};

struct Result {
  std::vector<Transcript> transcripts;  // of the last round
  int64_t cached_tokens = 0, preemptions = 0, snapshots = 0, steps = 0;
  bool slides = false;  // every layer has a window, so that sequences hold few blocks
};

constexpr int64_t kStepsBeforeCancel = 5;
bool is_cancelled(const Setup& setup, size_t request) { return setup.cancels && request % 3 == 2; }

int64_t enough_blocks(const std::vector<GenerationRequest>& requests) {
  int64_t blocks = 0;
  for (const GenerationRequest& request : requests)
    blocks += (std::ssize(request.prompt) + request.sampling.max_tokens) / compute::kBlockPositions + 1;
  return blocks;
}

Result run(const models::Model& model, compute::Backend& backend, const Setup& setup,
           const std::vector<GenerationRequest>& requests) {
  Metrics metrics;
  SystemClock clock;
  EngineOptions options = setup.options;
  if (options.kv_blocks == 0) options.kv_blocks = enough_blocks(requests);
  options.queued_requests_max = std::ssize(requests);
  options.queued_tokens_max = 1 << 20;
  Engine engine(model, backend, options, metrics, clock);
  Result result;
  for (int64_t round = 0; round < setup.rounds; ++round) {
    std::vector<SequencePtr> sequences;
    for (const GenerationRequest& request : requests) sequences.push_back(engine.submit(request));
    while (engine.step())
      if (++result.steps == kStepsBeforeCancel)
        for (size_t i = 0; i < sequences.size(); ++i)
          if (is_cancelled(setup, i)) engine.end(*sequences[i], EndRequest::cancelled);
    result.transcripts.clear();
    result.cached_tokens = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const Sequence& sequence = *sequences[i];
      EXPECT_EQ(sequence.stream.size() == sequence.sampling.max_tokens, !is_cancelled(setup, i));
      result.transcripts.push_back(transcript(sequence));
      result.cached_tokens += sequence.cached_tokens;
    }
  }
  result.preemptions = engine.scheduler().preemptions();
  result.snapshots = engine.states().snapshots_taken();
  result.slides = engine.kv_plan().groups()[0].window > 0;
  return result;
}

// The first setup is the reference. `little_memory` blocks hold the longest sequence and not many more.
std::vector<Setup> setups(int64_t little_memory) {
  constexpr PrefixCache off = PrefixCache::off;
  return {
      {"alone", {.max_sequences = 1, .prefix_cache = off}},
      {"a batch of 32", {.max_sequences = 32, .prefix_cache = off}},
      {"chunks of 64", {.max_sequences = 32, .batch_tokens = 64, .prefix_cache = off}},
      {"prefix cache, cold", {.max_sequences = 32}},
      {"prefix cache, warm", {.max_sequences = 32}, 2, 2},
      {"one thread", {.max_sequences = 32, .prefix_cache = off}, 1},
      {"little memory", {.max_sequences = 32, .kv_blocks = little_memory, .prefix_cache = off}},
      {"little memory, prefix cache, cancelled neighbours",
       {.max_sequences = 32, .kv_blocks = little_memory * 4 / 5},
       2,
       1,
       true},
  };
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Returns the transcripts, which must be the same in every setup.
std::vector<Transcript> expect_invariant(const std::filesystem::path& path, const std::string& isa,
                                         compute::Arithmetic arithmetic, const Workload& workload) {
  SCOPED_TRACE(fmt::format("{} on {}", path.filename().string(), isa));
  const LoadedModel two(path, {.arithmetic = arithmetic, .threads = 2, .isa = isa});
  const LoadedModel one(path, {.arithmetic = arithmetic, .threads = 1, .isa = isa});
  const auto requests = make_requests(workload, two.model->config().vocab_size);
  const int64_t longest = (workload.prompt_max + workload.max_tokens + 31) / 32;
  std::vector<Transcript> reference;
  for (const Setup& setup : setups(longest + longest / 2)) {
    const LoadedModel& loaded = setup.threads == 1 ? one : two;
    const auto start = std::chrono::steady_clock::now();
    const Result result = run(*loaded.model, *loaded.backend, setup, requests);
    if (reference.empty()) reference = result.transcripts;
    int64_t different = 0;
    for (size_t i = 0; i < requests.size(); ++i)
      different += !is_cancelled(setup, i) && result.transcripts[i] != reference[i];
    EXPECT_EQ(different, 0) << "requests differ with " << setup.name;
    EXPECT_EQ(result.snapshots > 0,
              loaded.model->config().recurrent && setup.options.prefix_cache == PrefixCache::on)
        << setup.name;
    EXPECT_TRUE(setup.rounds == 1 || result.cached_tokens > 0) << setup.name;
    EXPECT_TRUE(setup.options.kv_blocks == 0 || result.preemptions > 0 || result.slides) << setup.name;
    if (std::getenv("NEUTRINO_TEST_LONG") == nullptr) continue;
    fmt::print("{} {} {}: {} requests, {} different, {} steps, {} cached tokens, {} preemptions, {:.1f} s\n",
               path.filename().string(), loaded.backend->name(), setup.name, requests.size(), different,
               result.steps, result.cached_tokens, result.preemptions, seconds_since(start));
    std::fflush(stdout);
  }
  return reference;
}

constexpr Workload kTiny{.requests = 8, .prompt_min = 8, .prompt_max = 190, .max_tokens = 24};

std::string hash_of(const std::vector<Transcript>& transcripts) {
  Sha256 hash;
  for (const Transcript& bits : transcripts) hash.update(std::as_bytes(std::span(bits)));
  return to_hex(hash.finish()).substr(0, 16);
}

// Ids and log probabilities, one hash for all tables of all CPUs: what a machine computes here, every machine computes. They
// change with the arithmetic and with nothing else.
struct GoldenBits {
  const char *dtype, *hash;
};
constexpr GoldenBits kGoldenBits[] = {
    {"f32", "1af032400878ce76"},  {"f16", "54a7740f32316c52"},  {"bf16", "6cf4f23feb68ca64"},
    {"q8_0", "567ecc9e90ecea3d"}, {"q4_0", "6a8ca0212ccba34e"}, {"q4_1", "510bcfb6e9b9c9f5"},
};

TEST(BatchInvariance, OfTinyModelsOfEachTypeOnEachTable) {
  for (const auto& [dtype, golden] : kGoldenBits) {
    std::vector<Transcript> best;
    for (const std::string_view isa : compute::available_isas()) {
      const auto bits =
          expect_invariant(tiny_model_path(dtype), std::string(isa), compute::Arithmetic::integer, kTiny);
      if (best.empty()) best = bits;
      EXPECT_EQ(bits, best) << isa << " has other bits than " << compute::available_isas()[0];
    }
    EXPECT_EQ(hash_of(best), golden) << dtype << ": not the bits that other machines have";
  }
}

TEST(BatchInvariance, OfExactArithmetic) {
  for (const std::string_view isa : compute::available_isas())
    expect_invariant(tiny_model_path("q4_1"), std::string(isa), compute::Arithmetic::float32, kTiny);
}

// Recurrent layers of both kinds, with experts: resumed from snapshots after prefix hits and preemptions.
TEST(BatchInvariance, OfHybridModels) {
  using models::testing::TemporaryFolder;
  for (const char* name : {"qwen3next", "nemotron_h_moe"}) {
    const TemporaryFolder folder;
    models::testing::write_checkpoint(
        models::testing::read_golden_case(NEUTRINO_SOURCE_DIR "/tests/golden/models", name), folder.path());
    for (const auto arithmetic : {compute::Arithmetic::integer, compute::Arithmetic::float32})
      expect_invariant(folder.path(), "", arithmetic, kTiny);
  }
}

// Layers with a window give back what it has left, and find it again behind cached prefixes: prompts of many windows, of fewer
// positions than a block and of more; beside layers that see everything, with sinks, and alone.
TEST(BatchInvariance, OfModelsWithWindows) {
  using models::testing::TemporaryFolder;
  for (const char* name : {"gemma3", "gpt-oss", "mistral"})
    for (const int64_t window : {9, 40}) {
      auto golden = models::testing::read_golden_case(NEUTRINO_SOURCE_DIR "/tests/golden/models", name);
      golden.config["max_position_embeddings"] = 256;
      golden.config["sliding_window"] = window;
      const TemporaryFolder folder;
      models::testing::write_checkpoint(golden, folder.path());
      SCOPED_TRACE(fmt::format("{} with a window of {}", name, window));
      for (const auto arithmetic : {compute::Arithmetic::integer, compute::Arithmetic::float32})
        expect_invariant(folder.path(), "", arithmetic, kTiny);
    }
}

TEST(BatchInvariance, OfTheRealModel) {
  const char* path = std::getenv("NEUTRINO_TEST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "NEUTRINO_TEST_MODEL is not set";
  const bool full = std::getenv("NEUTRINO_TEST_LONG") != nullptr;
  const Workload workload =
      full ? Workload{.requests = 32, .prompt_min = 8, .prompt_max = 600, .max_tokens = 64}
           : Workload{.requests = 8, .prompt_min = 8, .prompt_max = 150, .max_tokens = 16};
  for (const std::string_view isa : compute::available_isas()) {
    if (isa == "generic") continue;  // minutes; the tiny models cover it
    expect_invariant(path, std::string(isa), compute::Arithmetic::integer, workload);
    if (!full) break;
  }
}

// ---- negative control

// Sums each product once per row of the batch and divides: the same mathematics, and a rounding that depends on the batch.
class BatchDependentBackend final : public compute::testing::ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  std::string_view name() const override { return "batch-dependent"; }
  compute::Tensor matmul(const compute::Activation& x, const compute::Matrix& w) override {
    const compute::Tensor out = inner_.matmul(x, w);
    for (int64_t row = 0; row < out.rows; ++row)
      for (int64_t column = 0; column < out.columns; ++column) {
        float sum = 0;
        for (int64_t i = 0; i < out.rows; ++i) sum += out.row(row)[column];
        out.row(row)[column] = sum / static_cast<float>(out.rows);
      }
    return out;
  }
};

// Gives all rows of a chunk one scale, as a kernel would that quantises its activations together: through that scale and back
// each result is rounded by its neighbours.
class ChunkScaleBackend final : public compute::testing::ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  std::string_view name() const override { return "chunk-scale"; }
  compute::Tensor matmul(const compute::Activation& x, const compute::Matrix& w) override {
    const compute::Tensor out = inner_.matmul(x, w);
    float scale = 0;
    for (int64_t row = 0; row < out.rows; ++row)
      for (int64_t column = 0; column < out.columns; ++column)
        scale = std::max(scale, std::abs(out.row(row)[column]));
    for (int64_t row = 0; row < out.rows && scale > 0; ++row)
      for (int64_t column = 0; column < out.columns; ++column)
        out.row(row)[column] = std::nearbyint(out.row(row)[column] / scale * 32767) / 32767 * scale;
    return out;
  }
};

template <typename Faulty>
void expect_found() {
  const LoadedModel loaded(tiny_model_path("q4_1"), {.threads = 2});
  Faulty backend(*loaded.backend);
  const auto requests = make_requests(kTiny, loaded.model->config().vocab_size);
  const auto all = setups(32);
  const Result alone = run(*loaded.model, backend, all[0], requests);
  for (const size_t other : {1U, 2U}) {
    const Result result = run(*loaded.model, backend, all[other], requests);
    int64_t different = 0;
    for (size_t i = 0; i < requests.size(); ++i) different += result.transcripts[i] != alone.transcripts[i];
    EXPECT_GT(different, 0) << all[other].name;
  }
}

TEST(BatchInvariance, ABatchDependentReductionIsFound) { expect_found<BatchDependentBackend>(); }

TEST(BatchInvariance, AScalePerChunkIsFound) { expect_found<ChunkScaleBackend>(); }

}  // namespace
}  // namespace neutrino::engine
