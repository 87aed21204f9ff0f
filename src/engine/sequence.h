// One generation, as the engine knows it.
//
// A sequence has `tokens` that are known (the prompt, then what was sampled) and a number of them that are `computed`: whose
// keys and values are in the KV cache. Every step computes some of the difference; when nothing is left to compute, the last
// row's logits give the next known token. There are no phases: a long prompt, a resumed sequence and decoding are the same.
//
// submit() makes the whole of it on the caller's thread, with room for everything that can happen to it later; from then on
// the fields belong to the engine thread, except where it says otherwise.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "chat/chat_model.h"
#include "compute/batch.h"
#include "engine/adapters.h"
#include "engine/draft.h"
#include "engine/guide.h"
#include "engine/token_counts.h"
#include "engine/token_stream.h"

namespace neutrino::engine {

// Somebody no longer wants the rest. `stopped`: a stop string was found, which is a good end.
enum class EndRequest : uint8_t { none, cancelled, stopped };

// A sequence's KV blocks in one group of layers.
struct BlockTable {
  std::vector<int32_t> blocks;  // of positions [32 i, 32 i + 32), with a reference each
  int64_t behind = 0;  // the first so many of them are kNoBlock: given back, no window sees them any more

  int64_t held() const { return static_cast<int64_t>(blocks.size()) - behind; }
};

struct Sequence {
  // `kv_groups`: of the engine, 1 or 2. `vocab_size`: of its sampler; needed for a grammar.
  Sequence(chat::GenerationRequest&& request, std::span<const int32_t> model_end_tokens,
           const Sha256Digest& root, size_t kv_groups, int64_t vocab_size = 0);

  // ---- constant after submit()
  std::string id;
  chat::SamplingParameters sampling;
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;
  std::vector<int32_t> end_tokens;  // sorted: those that end the generation
  int64_t submitted_ns = 0;
  int64_t priority = 0;  // lower values go first
  int64_t timeout_ms = 0;
  bool report_progress = false;                               // of the prompt
  int64_t deadline_ns = std::numeric_limits<int64_t>::max();  // then it ends with an error
  LoadedAdapterPtr adapter;                                   // null: the weights alone

  // ---- any thread
  TokenStream stream;
  std::atomic<EndRequest> end_request{EndRequest::none};

  // ---- engine thread; the consumer may read what says so once the stream has a token or is finished
  std::vector<int32_t> tokens;  // known: prompt, then generated
  int64_t computed = 0;         // tokens whose keys and values are in the cache
  std::array<BlockTable, compute::kKvGroups> tables;
  int32_t state_slot = -1;                // of a recurrent model, while it runs
  std::vector<Sha256Digest> block_names;  // of the full blocks of `tokens`, as far as they were needed
  Sha256Digest root;                      // of block_names
  std::optional<TokenCounts> counts;      // only with penalties
  std::unique_ptr<Guide> guide;           // only with a grammar
  int64_t planned_rows = 0;               // in the step being made
  Draft draft;
  int64_t preemptions = 0;
  int64_t branch = 0;            // tokens of the prefix that some other sequence had too, resumable or not
  int64_t latest_snapshot = -1;  // block of the last one taken of what was generated
  bool queued = true;            // was never scheduled
  bool holds_place = true;       // counts towards the limits of the queue
  int64_t arrival = 0;           // order of coming to the scheduler

  // Read by the consumer:
  int64_t cached_tokens = 0;  // of the prompt, found in the prefix cache
  int64_t scheduled_ns = 0;   // first time in a step
  int64_t first_token_ns = 0;
  std::atomic<int64_t> last_token_ns{0};
  std::atomic<int64_t> processed_ns{0},
      prompt_processed{0};  // with report_progress: tokens in the cache, and since when
  std::vector<chat::TokenLogprob> prompt_logprobs;  // of each prompt token, if asked for; the first: NaN
  std::vector<chat::TokenLogprob> prompt_tops;      // (prompt_tokens - 1, *sampling.prompt_logprobs)
  int64_t prompt_logprobs_done = 0;

  int64_t known() const { return static_cast<int64_t>(tokens.size()); }
  int64_t generated() const { return known() - prompt_tokens; }
  int64_t uncomputed() const { return known() - computed; }
  bool decodes() const { return uncomputed() == 1 || computed >= prompt_tokens; }  // its prompt is behind it
  bool is_end_token(int32_t token) const;
  bool wants_prompt_logprobs() const {
    return sampling.prompt_logprobs && prompt_logprobs_done + 1 < prompt_tokens;
  }
  bool samples_at_the_end() const { return generated() < sampling.max_tokens; }
  std::span<chat::TokenLogprob> prompt_top(int64_t index);
  // The name of a block whose tokens are all known.
  const Sha256Digest& block_name(int64_t block, Sha256& hash);
};

using SequencePtr = std::shared_ptr<Sequence>;

}  // namespace neutrino::engine
