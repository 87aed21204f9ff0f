// Drafts from a smaller model that has the same tokens.
//
// It computes what the large model computes, with keys and values of its own in a cache whose blocks stand where the large one's
// do: one block table leads to both, so that blocks are allocated, shared and given back once. How far it has come with a
// sequence says Draft::computed. It computes only sequences that get a draft, so it may be behind; then it catches up before
// it guesses. Of a block that was taken from the prefix cache it knows whether it computed that one, too, by the block's name.
//
// Its rows are sampled as the large model's will be, with the same draw of the same output position: where both models think
// alike they choose alike, not only when greedy. Whatever it says, right or wrong, the answer is the large model's.
//
// Owned by the engine thread; nothing allocates after the constructor.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/sha256.h"
#include "compute/backend.h"
#include "engine/batch_sampler.h"
#include "engine/sequence.h"
#include "models/model.h"

namespace neutrino::engine {

struct DraftModelLimits {
  int64_t max_sequences = 0, batch_tokens = 0;
  int64_t kv_blocks = 0;  // of the large model's first group
  int64_t vocab_size = 0;
  compute::KvType kv_type = compute::KvType::bf16;
  bool names = false;  // do the large model's blocks have names?
};

class DraftModel {
 public:
  // All references outlive this object; the backend is nobody else's. Throws Error{invalid_argument} for a model that cannot
  // draft: a recurrent one, or one with fewer tokens.
  DraftModel(const models::Model& model, compute::Backend& backend, const DraftModelLimits& limits,
             const Clock& clock);

  int64_t context() const { return model_.context(); }
  int64_t kv_bytes() const { return cache_->bytes(); }

  void begin_step();
  // Of a decoding sequence: is its last known token, and a few before it, all that is still to be computed? Otherwise computes some
  // of the rest.
  bool catch_up(Sequence& sequence);
  // Guesses the planned tokens of the drafts that are to come from it; all these sequences have caught up, and the blocks.
  void fill(std::span<Sequence* const> sequences);

  int64_t step_ns() const { return step_ns_; }   // spent since begin_step()
  double guess_ns() const { return guess_ns_; }  // that a guess costs; 0: not known yet

 private:
  void find_shared(Sequence& sequence);
  void remember(Sequence& sequence);
  void begin_batch();
  void add_rows(const Sequence& sequence, int64_t first_position, int64_t rows);
  compute::Tensor forward();
  void guess(int64_t round);

  const models::Model& model_;
  compute::Backend& backend_;
  const DraftModelLimits limits_;
  const Clock& clock_;
  std::unique_ptr<compute::KvCache> cache_;
  BatchSampler sampler_;
  Sha256 hash_;
  std::vector<Sha256Digest> names_;  // of the blocks that it has computed; zeros: of none
  std::vector<Sequence*> drafting_;  // of a fill()
  std::vector<SampleRequest> requests_;
  std::vector<int32_t> tokens_, positions_, output_rows_;  // of a batch
  std::vector<compute::SequenceRows> rows_;
  int64_t rows_left_ = 0;  // to catch up in this step
  int64_t step_ns_ = 0;
  double guess_ns_ = 0;
};

}  // namespace neutrino::engine
