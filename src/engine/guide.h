// What a sequence's grammar and its thinking budget say of its next token: which may come, and which come without being asked.
//
// A guide goes with its sequence: it is told each token that was chosen, gives out those that alone can follow (forced tokens,
// which the sequence takes over as known ones), and has a mask for the one after. Masks take a while (tens of microseconds), so
// GuideWorker fills them on a thread of their own while the model computes; the engine waits for them only before it samples.
//
// The tokens are those that sampling each of them under its mask would give: a forced token is the only one its mask holds.
// Before a grammar there may be reasoning, of which the grammar knows nothing (engine/thinking_phase.h): until its tag is closed
// anything may come but the end of the answer. Where log probabilities are wanted, the model must have seen every position, so forced tokens come one a step, by masks.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/thinking_phase.h"
#include "text/constraints.h"

namespace neutrino::engine {

// `at_once`: forced tokens are handed out together; `one_by_one`: each through a mask that holds nothing else.
enum class Forcing : uint8_t { at_once, one_by_one };

struct GuideOptions {
  std::vector<int32_t> model_end_tokens = {};  // where the grammar may end
  std::vector<int32_t> end_tokens = {};        // those that end this sequence
  bool ignore_eos = false;                     // the model's end tokens come only where nothing else can
  int64_t vocab_size = 0;                      // of the sampler
  Forcing forcing = Forcing::at_once;
};

struct TokenBias {
  int32_t token = 0;
  float amount = 0;
};

class Guide {
 public:
  // Either may be absent, but not both. The mask for the first token is filled here, on the caller's thread.
  Guide(const text::Grammar* grammar, std::optional<ThinkingPhase> thinking, GuideOptions options);

  // The token that was chosen. Returns those that follow by force, which count as chosen; they stay valid until the next call.
  // The mask is that of a state gone by until fill_mask().
  std::span<const int32_t> advance(int32_t token);
  void fill_mask();  // any one thread

  // Of the next token; as many bits as the sampler has tokens. nullptr: any may come.
  const uint64_t* allowed() const { return free_ ? nullptr : mask_.data(); }
  // Added to a token's logit, to end reasoning in time; 0: none.
  TokenBias bias() const {
    return thinking_ ? TokenBias{thinking_->close_token(), thinking_->pressure()} : TokenBias{};
  }
  // The mask holds nothing but end tokens: a grammar that is complete ends the answer, however short it must not be.
  bool only_ends() const { return only_ends_; }
  bool ended() const { return ended_; }    // the answer is complete, and its end token, if there is one, came
  bool failed() const { return failed_; }  // no token can follow: error() says why
  std::string error() const;

 private:
  bool has_pending() const { return forced_next_ < forced_count_; }
  void note(int32_t token);
  void show_only(int32_t token);
  void look_at_ends();
  bool thinks() const;  // the grammar has not begun
  void make_thinking_mask();
  std::span<const int32_t> advance_grammar(int32_t token);

  std::optional<text::GrammarMatcher> matcher_;
  std::optional<ThinkingPhase> thinking_;
  const GuideOptions options_;
  std::vector<uint64_t> mask_;
  std::vector<uint64_t> thinking_mask_;  // before a grammar
  bool free_ = false;                    // nothing is masked
  std::vector<uint64_t> ends_,
      hidden_;                   // like mask_: all end tokens; those that come only where nothing else can
  std::vector<int32_t> forced_;  // (kForcedTokens)
  int64_t forced_count_ = 0, forced_next_ = 0;  // those from `next` on are still to come, one by one
  bool only_ends_ = false, ended_ = false, failed_ = false;
};

// The thread that fills masks. The engine thread calls add() for each guide whose sequence got a token, begin() when all are
// added, and finish() before it looks at a mask or destroys a guide. Nothing allocates after the constructor.
class GuideWorker {
 public:
  explicit GuideWorker(int64_t guides_max);
  ~GuideWorker();

  void add(Guide& guide);
  void begin();
  void finish();  // fills what is left on the calling thread, too

 private:
  void run();
  Guide* take();  // with the lock; nullptr: none is left
  void fill(Guide& guide, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;  // guards all below but the thread
  std::condition_variable added_, filled_;
  std::vector<Guide*> guides_;  // (guides_max)
  size_t taken_ = 0;            // of them
  int64_t filling_ = 0;         // taken and not filled yet
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace neutrino::engine
