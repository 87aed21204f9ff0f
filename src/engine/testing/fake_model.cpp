#include "engine/testing/fake_model.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "base/error.h"

namespace neutrino::engine::testing {
namespace {

constexpr uint64_t kNoHistory = 0x9E3779B97F4A7C15ULL;

// SplitMix64's finaliser (Steele et al. 2014): every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

uint64_t extend(uint64_t history, int32_t token) {
  return mix(history * 31 + static_cast<uint64_t>(token) + 1);
}

[[noreturn]] void not_used() {
  check(false, "a FakeModel computes nothing through its backend");
  __builtin_unreachable();
}

}  // namespace

FakeKvCache::Slot& FakeKvCache::at(const compute::SequenceRows& rows, int64_t position) {
  const int64_t block = rows.block_table[static_cast<size_t>(position / compute::kBlockPositions)];
  check(block >= 0 && block < shape_.blocks, "a block table names a block that does not exist");
  return slots_[static_cast<size_t>(block * compute::kBlockPositions + position % compute::kBlockPositions)];
}

void FakeKvCache::clear_state(int32_t slot) { states_.at(static_cast<size_t>(slot)) = kNoHistory; }

void FakeKvCache::copy_state(int32_t from, int32_t to) {
  if (++copies_; forget_every > 0 && copies_ % forget_every == 0) return;
  states_.at(static_cast<size_t>(to)) = states_.at(static_cast<size_t>(from));
}

FakeModel::FakeModel(int64_t vocab_size, int64_t context, Kind kind) {
  config_.recurrent = kind == Kind::recurrent;
  config_.architecture = "fake";
  config_.vocab_size = vocab_size;
  config_.num_hidden_layers = config_.num_key_value_heads = config_.head_dim = 1;
  config_.max_position_embeddings = context_ = context;
}

compute::KvCacheShape FakeModel::kv_cache_shape(int64_t blocks, int64_t state_slots) const {
  compute::KvCacheShape shape = compute::uniform_kv_cache(1, 1, 1, blocks);
  if (config_.recurrent) shape.states = {1}, shape.state_slots = state_slots;
  return shape;
}

compute::Tensor FakeModel::forward(compute::Backend& backend, const compute::Batch& batch,
                                   compute::KvCache& cache) const {
  ++steps;
  rows += static_cast<int64_t>(batch.tokens.size());
  if (before_forward) before_forward(batch);
  auto& memory = dynamic_cast<FakeKvCache&>(cache);
  for (const compute::SequenceRows& part : batch.sequences) {  // all rows are stored before any is read
    uint64_t state = config_.recurrent ? memory.state(part) : 0;
    for (int64_t i = 0; i < part.rows; ++i) {
      const int64_t position = part.first_position + i;
      const size_t row = static_cast<size_t>(part.first_row + i);
      check(batch.positions[row] == position, "a row has the wrong position");
      const uint64_t before = position == 0 ? kNoHistory : memory.at(part, position - 1).history;
      if (config_.recurrent && state != before)
        throw std::logic_error("a state sums up something else than the sequence's prefix");
      memory.at(part, position) = {batch.tokens[row], position, extend(before, batch.tokens[row])};
      state = extend(state, batch.tokens[row]);
    }
    if (config_.recurrent) memory.state(part) = state;
  }
  auto scratch = dynamic_cast<FakeBackend&>(backend).scratch();
  const compute::Tensor logits{scratch.data(), static_cast<int64_t>(batch.output_rows.size()),
                               config_.vocab_size, config_.vocab_size};
  size_t output = 0;
  for (const compute::SequenceRows& part : batch.sequences) {
    const int64_t end = part.first_position + part.rows;
    uint64_t history = kNoHistory;
    for (int64_t position = 0; position < end; ++position) {
      const FakeKvCache::Slot& slot = memory.at(part, position);
      history = extend(history, slot.token);
      check(slot.position == position && slot.history == history,
            "a KV block holds something else than the sequence's prefix");
      const int64_t row = part.first_row + position - part.first_position;
      if (output == batch.output_rows.size() || batch.output_rows[output] != row) continue;
      const std::span<float> out{logits.row(static_cast<int64_t>(output++)),
                                 static_cast<size_t>(config_.vocab_size)};
      fill_logits(history, out);
      if (slot.token == poison) out[0] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  check(output == batch.output_rows.size(), "an output row belongs to no sequence");
  return logits;
}

void FakeModel::fill_logits(uint64_t history, std::span<float> logits) const {
  for (size_t token = 0; token < logits.size(); ++token)
    logits[token] = static_cast<float>(mix(history + token) >> 40) * (8.0F / (1 << 24));
}

void FakeModel::logits_after(std::span<const int32_t> tokens, std::span<float> logits) const {
  uint64_t history = kNoHistory;
  for (const int32_t token : tokens) history = extend(history, token);
  fill_logits(history, logits);
}

std::vector<int32_t> FakeModel::continuation(std::vector<int32_t> prompt, int64_t count) const {
  const size_t prompt_tokens = prompt.size();
  std::vector<float> logits(static_cast<size_t>(config_.vocab_size));
  for (int64_t i = 0; i < count; ++i) {
    logits_after(prompt, logits);
    prompt.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
  }
  return {prompt.begin() + static_cast<ptrdiff_t>(prompt_tokens), prompt.end()};
}

std::unique_ptr<compute::Matrix> FakeBackend::load_matrix(std::span<const compute::WeightView>) {
  not_used();
}
std::unique_ptr<compute::Matrix> FakeBackend::load_gate_up(const compute::WeightView&,
                                                           const compute::WeightView&) {
  not_used();
}
std::unique_ptr<compute::Matrix> FakeBackend::load_embedding(const compute::WeightView&) { not_used(); }
compute::Tensor FakeBackend::embed(const compute::Matrix&, std::span<const int32_t>) { not_used(); }
void FakeBackend::matmul_into(const compute::Tensor&, const compute::Activation&, const compute::Matrix&) {
  not_used();
}
void FakeBackend::matmul_add(compute::Tensor&, const compute::Activation&, const compute::Matrix&) {
  not_used();
}
compute::Activation FakeBackend::gated_matmul(const compute::Activation&, const compute::Matrix&,
                                              compute::Function) {
  not_used();
}
void FakeBackend::rope_and_store(compute::Tensor&, const compute::RopeTable&, const compute::AttentionShape&,
                                 const compute::Batch&, compute::KvCache&, int64_t) {
  not_used();
}
compute::Activation FakeBackend::make_activation(int64_t, int64_t) { not_used(); }
void FakeBackend::write_activation(const compute::Activation&, int64_t, const float*) const { not_used(); }

}  // namespace neutrino::engine::testing
