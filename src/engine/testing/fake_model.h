// A model that checks its own memory.
//
// Its KV cache holds, for each position, which token stands there and a hash of everything up to it. forward() writes these
// for the batch's rows and then, as attention would, walks every position that a row may see and check()s that the block
// table leads to the right position of one unbroken history. The logits are a pure function of that history, so a test can
// foretell every token from the prompt alone: a block with somebody else's contents cannot go unnoticed.
//
// One with a window has layers whose cache it reads no further back than that (kind windowed: beside layers that see everything;
// sliding: those alone). A block that is not there any more, or holds something else, makes it throw: a bug, the engine dies.
//
// A recurrent one also keeps that hash as its state, and throws (a bug: the engine dies) where a sequence's slot holds more
// or less than its history.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "compute/host_backend.h"
#include "engine/token_stream.h"
#include "models/model.h"

namespace neutrino::engine::testing {

// What a stream has so far.
inline std::vector<int32_t> generated_tokens(const TokenStream& stream) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < stream.size(); ++i) tokens.push_back(stream.record(i).token);
  return tokens;
}

class FakeKvCache final : public compute::KvCache {
 public:
  struct Slot {
    int32_t token = -1;
    int64_t position = -1;
    uint64_t history = 0;  // hash of all tokens up to this one
  };
  explicit FakeKvCache(const compute::KvCacheShape& shape)
      : KvCache(shape),
        slots_{make_slots(shape.blocks), make_slots(shape.window_blocks)},
        states_(static_cast<size_t>(shape.state_slots)) {}
  int64_t bytes() const override {
    return static_cast<int64_t>((slots_[0].size() + slots_[1].size()) * sizeof(Slot));
  }
  void clear_state(int32_t slot) override;
  void copy_state(int32_t from, int32_t to) override;
  void copy_block(int64_t group, int32_t from, int32_t to) override;
  // What a layer of this group has of a position. Throws std::logic_error where the table leads nowhere.
  Slot& at(const compute::SequenceRows& rows, int64_t position, int64_t group);
  uint64_t& state(const compute::SequenceRows& rows) {
    return states_.at(static_cast<size_t>(rows.state_slot));
  }

  int64_t forget_every = 0;  // for negative controls: each n-th copy is not made

 private:
  static std::vector<Slot> make_slots(int64_t blocks) {
    return std::vector<Slot>(static_cast<size_t>(blocks * compute::kBlockPositions));
  }

  std::array<std::vector<Slot>, compute::kKvGroups> slots_;
  std::vector<uint64_t> states_;
  int64_t copies_ = 0;
};

// Only what the engine itself calls; sampling slices run one after the other.
class FakeBackend final : public compute::HostBackend {
 public:
  // `forget_every`: see FakeKvCache.
  explicit FakeBackend(int64_t threads = 2, int64_t forget_every = 0)
      : HostBackend(compute::Arithmetic::integer), threads_(threads), forget_every_(forget_every) {}
  std::string_view name() const override { return "fake"; }
  int64_t threads() const override { return threads_; }
  std::unique_ptr<compute::KvCache> make_kv_cache(const compute::KvCacheShape& shape) override {
    auto cache = std::make_unique<FakeKvCache>(shape);
    cache->forget_every = forget_every_;
    return cache;
  }
  void reserve(int64_t scratch_bytes) override {
    floats_.resize(static_cast<size_t>(scratch_bytes) / sizeof(float));
  }
  void parallel_for(int64_t count, void (*fn)(void* context, int64_t i), void* context) override {
    for (int64_t i = 0; i < count; ++i) fn(context, i);
  }
  std::span<float> scratch() { return floats_; }
  void begin_step(const compute::Batch&) override {}

  std::unique_ptr<compute::Matrix> load_matrix(std::span<const compute::WeightView>) override;
  std::unique_ptr<compute::Matrix> load_gate_up(const compute::WeightView&,
                                                const compute::WeightView&) override;
  std::unique_ptr<compute::Matrix> load_embedding(const compute::WeightView&) override;
  compute::Tensor embed(const compute::Matrix&, std::span<const int32_t>) override;
  void matmul_into(const compute::Tensor&, const compute::Activation&, const compute::Matrix&) override;
  void matmul_add(compute::Tensor&, const compute::Activation&, const compute::Matrix&) override;
  compute::Activation gated_matmul(const compute::Activation&, const compute::Matrix&,
                                   compute::Function) override;
  void rope_and_store(compute::Tensor&, const compute::RopeTable&, const compute::AttentionShape&,
                      const compute::Batch&, compute::KvCache&, int64_t) override;

 private:
  compute::Activation make_activation(int64_t, int64_t) override;
  void write_activation(const compute::Activation&, int64_t, const float*) const override;

  int64_t threads_;
  int64_t forget_every_;
  std::vector<float> floats_;
};

class FakeModel final : public models::Model {
 public:
  enum class Kind { attention, recurrent, windowed, sliding };
  FakeModel(int64_t vocab_size, int64_t context, Kind kind = Kind::attention, int64_t window = 40);
  compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t state_slots) const override;
  compute::Tensor forward(compute::Backend& backend, const compute::Batch& batch,
                          compute::KvCache& cache) const override;
  int64_t scratch_bytes(int64_t, int64_t output_rows) const override {
    return output_rows * config_.vocab_size * 4;
  }
  int64_t weight_bytes() const override { return 0; }

  // The logits after these tokens, and the greedy continuation of a prompt, from the definition alone.
  void logits_after(std::span<const int32_t> tokens, std::span<float> logits) const;
  std::vector<int32_t> continuation(std::vector<int32_t> prompt, int64_t count) const;

  std::function<void(const compute::Batch&)> before_forward;  // may throw; may block
  int64_t remembers =
      0;  // if not 0: logits depend on the last so many tokens alone, so that greedy outputs run in loops
  int32_t poison = -1;        // a row with this token gets a NaN in its logits
  int64_t reads_further = 0;  // for negative controls: positions behind the window that it reads all the same
  mutable std::atomic<int64_t> steps{0}, rows{0};

 private:
  void fill_logits(uint64_t history, std::span<float> logits) const;
  uint64_t remembered(const compute::SequenceRows& part, FakeKvCache& memory, int64_t position) const;
  void write_rows(const compute::Batch& batch, const compute::SequenceRows& part, FakeKvCache& memory) const;
  void check_history(const compute::SequenceRows& part, FakeKvCache& memory, size_t layer) const;
};

}  // namespace neutrino::engine::testing
