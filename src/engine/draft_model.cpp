#include "engine/draft_model.h"

#include <algorithm>

#include "base/error.h"

namespace neutrino::engine {

using compute::kBlockPositions;

namespace {

// Tokens before the last known one that the first guess of a draft may compute in passing.
constexpr int64_t kBehindMax = 4;

int64_t rows_max(const DraftModelLimits& limits) {
  return std::max(limits.batch_tokens, limits.max_sequences * (kBehindMax + 1));
}

compute::KvCacheShape cache_shape(const models::Model& model, const DraftModelLimits& limits) {
  compute::KvCacheShape shape = model.kv_cache_shape(limits.kv_blocks);
  shape.type = limits.kv_type;
  return shape;
}

const models::Model& checked(const models::Model& model, int64_t vocab_size) {
  const models::ModelConfig& config = model.config();
  if (config.recurrent)
    throw make_error(
        ErrorCode::invalid_argument,
        "a draft model must not be recurrent: {} cannot be cut back to the tokens that were right",
        config.architecture);
  if (config.vocab_size < vocab_size)
    throw make_error(ErrorCode::invalid_argument, "a draft model must have logits for {} tokens, got {}",
                     vocab_size, config.vocab_size);
  return model;
}

}  // namespace

DraftModel::DraftModel(const models::Model& model, compute::Backend& backend, const DraftModelLimits& limits,
                       const Clock& clock)
    : model_(checked(model, limits.vocab_size)),
      backend_(backend),
      limits_(limits),
      clock_(clock),
      cache_(backend.make_kv_cache(cache_shape(model, limits))),
      sampler_(limits.vocab_size, limits.max_sequences, backend),
      names_(limits.names ? static_cast<size_t>(limits.kv_blocks) : 0) {
  const auto rows = static_cast<size_t>(rows_max(limits)),
             sequences = static_cast<size_t>(limits.max_sequences);
  backend.reserve(model.scratch_bytes(rows_max(limits), limits.max_sequences));
  tokens_.reserve(rows);
  positions_.reserve(rows);
  output_rows_.reserve(sequences);
  rows_.reserve(sequences);
  drafting_.reserve(sequences);
  requests_.reserve(sequences);
}

void DraftModel::begin_step() {
  rows_left_ = limits_.batch_tokens;
  step_ns_ = 0;
}

// Leading blocks that it computed for somebody else.
void DraftModel::find_shared(Sequence& sequence) {
  const std::vector<int32_t>& blocks = sequence.tables[0].blocks;
  int64_t& named = sequence.draft.named;
  if (!limits_.names) return;
  while ((named + 1) * kBlockPositions <= sequence.computed &&
         names_[static_cast<size_t>(blocks[static_cast<size_t>(named)])] == sequence.block_name(named, hash_))
    ++named;
  sequence.draft.computed = named * kBlockPositions;
}

void DraftModel::remember(Sequence& sequence) {
  const std::vector<int32_t>& blocks = sequence.tables[0].blocks;
  int64_t& named = sequence.draft.named;
  if (!limits_.names) return;
  for (; (named + 1) * kBlockPositions <= sequence.draft.computed; ++named)
    names_[static_cast<size_t>(blocks[static_cast<size_t>(named)])] = sequence.block_name(named, hash_);
}

bool DraftModel::catch_up(Sequence& sequence) {
  Draft& draft = sequence.draft;
  if (draft.computed == 0) find_shared(sequence);
  remember(sequence);
  const int64_t behind = sequence.known() - 1 - draft.computed;
  if (behind <= kBehindMax) return true;
  const int64_t rows = std::min(behind, rows_left_);
  if (rows == 0) return false;
  const int64_t start_ns = clock_.now_ns();
  begin_batch();
  add_rows(sequence, draft.computed, rows);
  forward();
  draft.computed += rows;
  rows_left_ -= rows;
  remember(sequence);
  step_ns_ += clock_.now_ns() - start_ns;
  return behind - rows <= kBehindMax;
}

void DraftModel::begin_batch() {
  tokens_.clear();
  positions_.clear();
  output_rows_.clear();
  rows_.clear();
}

// What is written into a block may be a guess, so it loses its name.
void DraftModel::add_rows(const Sequence& sequence, int64_t first_position, int64_t rows) {
  const std::vector<int32_t>& blocks = sequence.tables[0].blocks;
  rows_.push_back({.first_row = std::ssize(tokens_),
                   .rows = rows,
                   .first_position = first_position,
                   .block_table = blocks});
  for (int64_t position = first_position; position < first_position + rows; ++position) {
    const int64_t guess = position - sequence.known();
    tokens_.push_back(guess < 0 ? sequence.tokens[static_cast<size_t>(position)]
                                : sequence.draft.tokens[static_cast<size_t>(guess)]);
    positions_.push_back(static_cast<int32_t>(position));
    if (limits_.names)
      names_[static_cast<size_t>(blocks[static_cast<size_t>(position / kBlockPositions)])] = {};
  }
}

compute::Tensor DraftModel::forward() {
  return model_.forward(
      backend_, {.tokens = tokens_, .positions = positions_, .sequences = rows_, .output_rows = output_rows_},
      *cache_);
}

void DraftModel::fill(std::span<Sequence* const> sequences) {
  drafting_.clear();
  int64_t rounds = 0, guesses = 0;
  for (Sequence* sequence : sequences) {
    if (!sequence->draft.from_model || sequence->draft.planned == 0) continue;
    drafting_.push_back(sequence);
    rounds = std::max(rounds, sequence->draft.planned);
    guesses += sequence->draft.planned;
  }
  if (drafting_.empty()) return;
  const int64_t start_ns = clock_.now_ns();
  for (int64_t round = 0; round < rounds; ++round) guess(round);
  for (Sequence* sequence : drafting_)
    sequence->draft.computed = sequence->known() + sequence->draft.planned - 1;
  const int64_t spent_ns = clock_.now_ns() - start_ns;
  step_ns_ += spent_ns;
  const double each = static_cast<double>(spent_ns) / static_cast<double>(guesses);
  guess_ns_ = guess_ns_ == 0 ? each : 0.9 * guess_ns_ + 0.1 * each;
}

// The guess `round` of every draft that has so many.
void DraftModel::guess(int64_t round) {
  begin_batch();
  requests_.clear();
  for (const Sequence* sequence : drafting_) {
    if (sequence->draft.planned <= round) continue;
    const int64_t last = sequence->known() - 1 + round, first = round == 0 ? sequence->draft.computed : last;
    add_rows(*sequence, first, last - first + 1);
    output_rows_.push_back(static_cast<int32_t>(std::ssize(tokens_) - 1));
  }
  const compute::Tensor logits = forward();
  for (const Sequence* sequence : drafting_) {
    if (sequence->draft.planned <= round) continue;
    const int64_t generated = sequence->generated() + round;
    const bool too_short = generated < sequence->sampling.min_tokens;
    requests_.push_back(
        {.logits = {logits.row(std::ssize(requests_)), static_cast<size_t>(limits_.vocab_size)},
         .parameters = &sequence->sampling,
         .seed = sequence->seed,
         .output_position = generated,
         .counts = sequence->counts ? &*sequence->counts : nullptr,
         .masked_tokens =
             too_short ? std::span<const int32_t>(sequence->end_tokens) : std::span<const int32_t>()});
  }
  const std::span<const Sample> samples = sampler_.sample(requests_);
  size_t next = 0;
  for (Sequence* sequence : drafting_)
    if (sequence->draft.planned > round)
      sequence->draft.tokens[static_cast<size_t>(round)] = samples[next++].token;
}

}  // namespace neutrino::engine
