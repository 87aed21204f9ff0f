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

FakeKvCache::Slot& FakeKvCache::at(const compute::SequenceRows& rows, int64_t position, int64_t group) {
  const auto table = group == 0 ? rows.block_table : rows.window_table;
  const size_t place = static_cast<size_t>(position / compute::kBlockPositions);
  if (place >= table.size() || table[place] < 0)
    throw std::logic_error("a block table leads nowhere for a position that is seen");
  return slots_[static_cast<size_t>(group)].at(
      static_cast<size_t>(table[place] * compute::kBlockPositions + position % compute::kBlockPositions));
}

void FakeKvCache::clear_state(int32_t slot) { states_.at(static_cast<size_t>(slot)) = kNoHistory; }

void FakeKvCache::copy_state(int32_t from, int32_t to) {
  if (++copies_; forget_every > 0 && copies_ % forget_every == 0) return;
  states_.at(static_cast<size_t>(to)) = states_.at(static_cast<size_t>(from));
}

void FakeKvCache::copy_block(int64_t group, int32_t from, int32_t to) {
  if (++copies_; forget_every > 0 && copies_ % forget_every == 0) return;
  auto& slots = slots_[static_cast<size_t>(group)];
  for (int64_t i = 0; i < compute::kBlockPositions; ++i)
    slots.at(static_cast<size_t>(to * compute::kBlockPositions + i)) =
        slots.at(static_cast<size_t>(from * compute::kBlockPositions + i));
}

FakeModel::FakeModel(int64_t vocab_size, int64_t context, Kind kind, int64_t window) {
  config_.recurrent = kind == Kind::recurrent;
  config_.architecture = "fake";
  config_.vocab_size = vocab_size;
  config_.num_hidden_layers = config_.num_key_value_heads = config_.head_dim = 1;
  if (kind == Kind::windowed) windows_ = {0, window};
  if (kind == Kind::sliding) windows_ = {window};
  if (!windows_.empty()) config_.num_hidden_layers = std::ssize(windows_);
  config_.max_position_embeddings = context_ = context;
}

compute::KvCacheShape FakeModel::kv_cache_shape(int64_t blocks, int64_t state_slots) const {
  compute::KvCacheShape shape = compute::uniform_kv_cache(config_.num_hidden_layers, 1, 1, blocks);
  for (size_t i = 0; i < windows_.size(); ++i) shape.layers[i].window = windows_[i];
  if (config_.recurrent) shape.states = {1}, shape.state_slots = state_slots;
  return shape;
}

// Every layer gets the same; what comes before a row is read where the least is kept: in the last layer.
void FakeModel::write_rows(const compute::Batch& batch, const compute::SequenceRows& part,
                           FakeKvCache& memory) const {
  const auto& layers = memory.shape().layers;
  const int64_t last = compute::kv_group(memory.shape(), layers.back());
  uint64_t state = config_.recurrent ? memory.state(part) : 0;
  for (int64_t i = 0; i < part.rows; ++i) {
    const int64_t position = part.first_position + i;
    const size_t row = static_cast<size_t>(part.first_row + i);
    check(batch.positions[row] == position, "a row has the wrong position");
    const uint64_t before = position == 0 ? kNoHistory : memory.at(part, position - 1, last).history;
    if (config_.recurrent && state != before)
      throw std::logic_error("a state sums up something else than the sequence's prefix");
    for (const compute::KvLayer& layer : layers)
      memory.at(part, position, compute::kv_group(memory.shape(), layer)) = {
          batch.tokens[row], position, extend(before, batch.tokens[row])};
    state = extend(state, batch.tokens[row]);
  }
  if (config_.recurrent) memory.state(part) = state;
}

// Walks what the part's rows see in this layer. Where a window begins, the history before it is taken on trust; it goes on into
// the rows that have just been written, which all layers share.
void FakeModel::check_history(const compute::SequenceRows& part, FakeKvCache& memory, size_t layer) const {
  const int64_t group = compute::kv_group(memory.shape(), memory.shape().layers[layer]);
  const int64_t window = windows_.empty() || windows_[layer] == 0 ? 0 : windows_[layer] + reads_further;
  const int64_t first = window > 0 ? std::max<int64_t>(0, part.first_position - window + 1) : 0;
  uint64_t history = kNoHistory;
  for (int64_t position = first; position < part.first_position + part.rows; ++position) {
    const FakeKvCache::Slot& slot = memory.at(part, position, group);
    history = position == first && first > 0 ? slot.history : extend(history, slot.token);
    if (slot.position != position || slot.history != history)
      throw std::logic_error("a KV block holds something else than the sequence's prefix");
  }
}

compute::Tensor FakeModel::forward(compute::Backend& backend, const compute::Batch& batch,
                                   compute::KvCache& cache) const {
  ++steps;
  rows += static_cast<int64_t>(batch.tokens.size());
  if (before_forward) before_forward(batch);
  auto& memory = dynamic_cast<FakeKvCache&>(cache);
  for (const compute::SequenceRows& part : batch.sequences)  // all rows are stored before any is read
    write_rows(batch, part, memory);
  auto scratch = dynamic_cast<FakeBackend&>(backend).scratch();
  const compute::Tensor logits{scratch.data(), static_cast<int64_t>(batch.output_rows.size()),
                               config_.vocab_size, config_.vocab_size};
  size_t output = 0;
  for (const compute::SequenceRows& part : batch.sequences) {
    for (size_t layer = 0; layer < memory.shape().layers.size(); ++layer) check_history(part, memory, layer);
    for (int64_t i = 0; i < part.rows; ++i) {
      if (output == batch.output_rows.size() || batch.output_rows[output] != part.first_row + i) continue;
      const FakeKvCache::Slot& slot = memory.at(part, part.first_position + i, 0);
      const std::span<float> out{logits.row(static_cast<int64_t>(output++)),
                                 static_cast<size_t>(config_.vocab_size)};
      fill_logits(remembered(part, memory, part.first_position + i), out);
      if (slot.token == poison) out[0] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  check(output == batch.output_rows.size(), "an output row belongs to no sequence");
  return logits;
}

// What the logits after a position depend on.
uint64_t FakeModel::remembered(const compute::SequenceRows& part, FakeKvCache& memory,
                               int64_t position) const {
  if (remembers == 0) return memory.at(part, position, 0).history;
  uint64_t history = kNoHistory;
  for (int64_t i = std::max<int64_t>(0, position - remembers + 1); i <= position; ++i)
    history = extend(history, memory.at(part, i, 0).token);
  return history;
}

void FakeModel::fill_logits(uint64_t history, std::span<float> logits) const {
  for (size_t token = 0; token < logits.size(); ++token)
    logits[token] = static_cast<float>(mix(history + token) >> 40) * (8.0F / (1 << 24));
}

void FakeModel::logits_after(std::span<const int32_t> tokens, std::span<float> logits) const {
  uint64_t history = kNoHistory;
  const size_t forgotten =
      remembers > 0 && std::ssize(tokens) > remembers ? tokens.size() - static_cast<size_t>(remembers) : 0;
  for (const int32_t token : tokens.subspan(forgotten)) history = extend(history, token);
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
