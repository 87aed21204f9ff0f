// A ChatModel that reads from a script, for tests of everything above the waist.
//
// Tokens are bytes: id b is byte b, id 256 is the end of a turn. Each generation takes the next script and plays it on the
// fake's own thread, piece by piece, with the delays that the script asks for; `max_tokens` cuts it. Where the request says how an
// answer is taken apart, it is. Everything it was asked is kept, so that a test can look at what the server made of a body.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "chat/chat_model.h"
#include "chat/testing/fake_model_admin.h"
#include "text/grammar_cache.h"

namespace neutrino::chat::testing {

// What one generation does. Each piece becomes available at once, `delay` after the one before.
struct Script {
  std::vector<std::string> pieces = {"Hello", ",", " world", "."};
  std::chrono::milliseconds first_delay{0};  // before the first piece: queue and prefill
  std::chrono::milliseconds delay{0};        // before each later one
  FinishReason finish_reason = FinishReason::stop;
  std::string stop_reason = {};
  std::optional<Error> error = {};  // ends the script with FinishReason::error
  bool stall = false;               // after the pieces: silence until cancelled
  int64_t cached_tokens = 0;
  std::optional<PromptProgress> progress = {};  // before the first piece, if the request asks for it
};

class FakeGeneration;

class FakeChatModel final : public ChatModel {
 public:
  static constexpr int32_t kEndOfTurn = 256;

  explicit FakeChatModel(ChatModelInfo info = default_info());
  ~FakeChatModel() override;
  static ChatModelInfo default_info();  // "fake", context 4096, vocabulary 257

  // ---- for the test; any thread
  void add_script(Script script);        // for the next generation; without one, the usual one is played
  void set_usual_script(Script script);  // from now on, in place of Script{}
  void refuse_next(Error error);         // the next generate() throws it
  void set_status(ChatModelStatus status);
  void set_admission(std::optional<Error> refusal);  // what check_admission() throws from now on
  void set_memory(std::vector<MemoryUse> memory);
  void kill(Error error);  // ends every generation with an error; status dead from now on
  std::vector<GenerationRequest> requests() const;  // all that generate() accepted
  std::vector<Conversation> conversations() const;  // all that render() was given
  // What it was asked since the last call: requests, conversations, texts to tokenise with their two flags, and more.
  struct Asked {
    std::vector<GenerationRequest> requests;
    std::vector<Conversation> conversations;
    std::vector<std::string> tokenized;
    std::vector<std::string> grammars;  // texts of the constraints that were compiled
    std::vector<std::string> admin;     // FakeModelAdmin::take_asked()
  };
  Asked take_asked();
  int64_t active() const;     // generations that have not ended
  int64_t cancelled() const;  // generations that ended by cancel or by being destroyed

  // ---- ChatModel
  const ChatModelInfo& info() const override { return info_; }
  ChatModelStatus status() const override;
  std::string render(const Conversation& conversation) const override;
  std::vector<int32_t> tokenize(std::string_view text, bool add_special, bool parse_special) const override;
  std::string detokenize(std::span<const int32_t> tokens) const override;
  std::string token_text(int32_t token) const override;
  // Over the tokens above. What a script plays does not depend on it.
  std::shared_ptr<const text::Grammar> compile_grammar(const text::GrammarSpec& spec) const override;
  std::unique_ptr<Generation> generate(GenerationRequest request) override;
  // "first" end "second" end, for an info that says reranker.
  TextPair tokenize_pair(std::string_view first, std::string_view second) const override;
  // If the info has an embedding_size: at once, element i of a text is 1 / (1 + i + its number of tokens). If it says
  // reranker: the raw score of a pair is its number of tokens minus 10.
  std::unique_ptr<Embedding> embed(EmbeddingRequest request) override;
  bool cancel(std::string_view id) override;
  std::vector<AdapterPtr> adapters() const override;
  AdapterPtr find_adapter(std::string_view name) const override;
  AdapterPtr load_adapter(const std::string& name, const std::filesystem::path& path,
                          IfLoaded if_loaded) override;
  void unload_adapter(std::string_view name) override;
  void check_admission() const override;
  std::vector<MemoryUse> memory() const override;
  ModelAdmin* admin() override { return &admin_; }
  void declare_dead(const std::string& why) override;
  void set_wake(std::function<void()> wake) override;

 private:
  friend class FakeGeneration;
  struct Play;  // one generation's state, shared with its consumer
  using Time = std::chrono::steady_clock::time_point;

  void run();
  bool advance(Play& play, Time now);  // true: something new for the consumer
  void end(Play& play, FinishReason reason);
  void cancel_play(Play& play);

  const ChatModelInfo info_;
  mutable text::GrammarCache grammars_;
  FakeModelAdmin admin_;
  mutable std::mutex mutex_;         // guards all below
  std::condition_variable changed_;  // a piece is there, or a script was added
  std::deque<Script> scripts_;
  std::optional<Error> refusal_ = {};
  ChatModelStatus status_;
  std::optional<Error> admission_ = {};
  std::vector<MemoryUse> memory_ = {};
  std::vector<GenerationRequest> requests_ = {};
  mutable std::vector<Conversation> conversations_;
  mutable std::vector<std::string> tokenized_;
  mutable std::vector<std::string> compiled_;  // texts of grammars
  Script usual_script_ = {};
  std::vector<std::shared_ptr<Play>> plays_ = {};  // that have not ended
  int64_t cancelled_ = 0;
  std::map<std::string, AdapterPtr, std::less<>> adapters_;  // every path is one
  std::function<void()> wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace neutrino::chat::testing
