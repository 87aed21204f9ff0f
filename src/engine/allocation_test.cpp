// In steady state the engine thread and the compute threads never allocate. operator new is replaced for this whole test
// binary; it counts on every thread that has not said that it is a consumer.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "chat/testing/list_tokenizer.h"
#include "engine/local_chat_model.h"
#include "engine/testing/fake_model.h"
#include "engine/testing/loaded_model.h"

namespace {

std::atomic<int64_t> allocations = 0;
thread_local bool counted = true;

void* allocate(size_t size, size_t alignment) {
  if (counted) allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = alignment <= alignof(std::max_align_t)
                     ? std::malloc(size)
                     : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// All out of line: g++ 12 takes a pair of which one half is inlined for a mistake.
[[gnu::noinline]] void* operator new(size_t size) { return allocate(size, 1); }
[[gnu::noinline]] void* operator new(size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace neutrino::engine {
namespace {

using chat::GenerationRequest;

constexpr int64_t kSequences = 6, kTokens = 225, kWarmSteps = 20, kMeasuredSteps = 200;

class UncountedThread {
 public:
  UncountedThread() { counted = false; }
  ~UncountedThread() { counted = true; }
};

// Greedy, sampled with every filter, penalised, with logprobs: each kind of request in one batch.
GenerationRequest request_of_kind(int64_t kind, std::vector<int32_t> prompt) {
  GenerationRequest request{
      .id = std::to_string(kind), .prompt = std::move(prompt), .sampling = {.max_tokens = kTokens}};
  chat::SamplingParameters& sampling = request.sampling;
  sampling.ignore_eos = true;
  if (kind % 3 == 0) sampling.temperature = 0;
  if (kind % 3 == 1) sampling.top_k = 20, sampling.top_p = 0.9, sampling.min_p = 0.01;
  if (kind % 2 == 1) sampling.repetition_penalty = 1.1, sampling.presence_penalty = 0.5;
  if (kind % 2 == 0) sampling.logprobs = 5;
  sampling.stop = {"this does not come"};
  return request;
}

// Reads all generations to their ends while they come; then says whether all did.
bool consume(LocalChatModel& chat, int64_t vocab_size) {
  const UncountedThread uncounted;
  std::vector<std::unique_ptr<chat::Generation>> generations;
  for (int64_t i = 0; i < kSequences; ++i) {
    std::vector<int32_t> prompt;
    for (int64_t token = 0; token < 5 + 5 * i; ++token)
      prompt.push_back(static_cast<int32_t>((i + token * 13) % vocab_size));
    GenerationRequest request = request_of_kind(i, std::move(prompt));
    if (i == kSequences - 1)  // the constraint engine has a heap of its own; handing masks over takes none
      request.grammar = chat.compile_grammar({.kind = text::GrammarKind::regex, .text = "x*"});
    generations.push_back(chat.generate(std::move(request)));
  }
  int64_t ended = 0;
  while (ended < kSequences) {
    for (const auto& generation : generations)
      if (const auto chunk = generation->poll()) ended += chunk->finish_reason.has_value();
    std::this_thread::yield();
  }
  return true;
}

struct Measured {
  int64_t steps = 0, allocations = 0;
};

// Runs the sequences through an engine over `model` and counts what is allocated between two steps of the engine.
Measured measure(const models::Model& model, compute::Backend& backend, std::atomic<int64_t>& steps,
                 const SpeculationOptions& speculation = {}) {
  counted = false;
  Metrics metrics;
  SystemClock clock;
  Engine engine(model, backend, {.max_sequences = kSequences, .kv_blocks = 128, .speculation = speculation},
                metrics, clock);
  const chat::testing::ListTokenizer tokenizer(
      std::vector<std::string>(static_cast<size_t>(model.config().vocab_size), "x"));
  LocalChatModel chat(engine, tokenizer, nullptr, {});
  std::atomic<int64_t> at_start = -1, at_end = -1;
  engine.set_wake([&] {  // on the engine thread, after a step
    const int64_t step = ++steps;
    if (step == kWarmSteps) at_start = allocations.load();
    if (step == kWarmSteps + kMeasuredSteps) at_end = allocations.load();
  });
  engine.start();
  std::thread consumer([&] { consume(chat, model.config().vocab_size); });
  consumer.join();
  engine.stop();
  counted = true;
  return {.steps = steps, .allocations = at_end - at_start};
}

TEST(Allocation, NoneIn200StepsOfAFakeModel) {
  const testing::FakeModel model(512, 1024);
  testing::FakeBackend backend;
  std::atomic<int64_t> steps = 0;
  const Measured measured = measure(model, backend, steps);
  EXPECT_GE(measured.steps, kWarmSteps + kMeasuredSteps);
  EXPECT_EQ(measured.allocations, 0);
}

TEST(Allocation, NoneIn200StepsWithGuesses) {
  testing::FakeModel model(512, 1024);
  model.remembers = 1;
  std::atomic<int64_t> drafts = 0;
  model.before_forward = [&](const compute::Batch& batch) {
    for (const compute::SequenceRows& part : batch.sequences)
      drafts += part.rows > 1 && part.first_position > 5 * kSequences;  // behind any prompt
  };
  testing::FakeBackend backend;
  std::atomic<int64_t> steps = 0;
  const Measured measured = measure(model, backend, steps, {.draft_tokens = 8});
  EXPECT_GE(measured.steps,
            kWarmSteps + kMeasuredSteps);  // those that are sampled without filters are hard to guess
  EXPECT_GT(drafts, 10);
  EXPECT_EQ(measured.allocations, 0);
}

TEST(Allocation, NoneIn200StepsWithADraftModel) {
  testing::FakeModel model(512, 1024), draft(512, 1024);
  draft.remembers = 1;  // and the model remembers all, so that guesses are wrong
  testing::FakeBackend backend, draft_backend;
  std::atomic<int64_t> steps = 0;
  const Measured measured = measure(
      model, backend, steps,
      {.draft_tokens = 4, .prompt_lookup = false, .draft_model = &draft, .draft_backend = &draft_backend});
  EXPECT_GE(measured.steps, kWarmSteps + kMeasuredSteps);
  EXPECT_GT(draft.steps, 10);
  EXPECT_EQ(measured.allocations, 0);
}

TEST(Allocation, NoneIn200StepsOfAModelWithWindows) {
  for (const auto kind : {testing::FakeModel::Kind::windowed, testing::FakeModel::Kind::sliding}) {
    const testing::FakeModel model(512, 1024, kind, 40);  // the steps give blocks back
    testing::FakeBackend backend;
    std::atomic<int64_t> steps = 0;
    const Measured measured = measure(model, backend, steps);
    EXPECT_GE(measured.steps, kWarmSteps + kMeasuredSteps);
    EXPECT_EQ(measured.allocations, 0);
  }
}

TEST(Allocation, OnePerStepIsSeen) {
  testing::FakeModel model(512, 1024);
  std::unique_ptr<int64_t> kept;
  model.before_forward = [&](const compute::Batch&) { kept = std::make_unique<int64_t>(); };
  testing::FakeBackend backend;
  std::atomic<int64_t> steps = 0;
  EXPECT_GE(measure(model, backend, steps).allocations, kMeasuredSteps);
}

TEST(Allocation, NoneIn200StepsOnTheCpuBackend) {
  const testing::LoadedModel loaded(testing::tiny_model_path("q4_1"), {.threads = 2});
  std::atomic<int64_t> steps = 0;
  const Measured measured = measure(*loaded.model, *loaded.backend, steps);
  EXPECT_GE(measured.steps, kWarmSteps + kMeasuredSteps);
  EXPECT_EQ(measured.allocations, 0);
}

}  // namespace
}  // namespace neutrino::engine
