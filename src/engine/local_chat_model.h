// chat::ChatModel over the engine in this process: conversation to tokens, tokens to text.
//
// Generations are consumed where their consumer lives: detokenising and searching for stop strings happen in poll(), on the
// consumer's thread, so that the engine thread only ever writes ids.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "chat/chat_model.h"
#include "chat/model_admin.h"
#include "engine/adapters.h"
#include "engine/engine.h"
#include "text/grammar_cache.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::engine {

class LocalChatModel final : public chat::ChatModel, public chat::ModelAdmin {
 public:
  // A conversation to the text of its prompt: the model's chat template. Any thread; throws Error.
  using Renderer = std::function<std::string(const chat::Conversation&)>;

  // The engine, the tokenizer, the adapters (null: there can be none) and what the renderer refers to outlive this object, and
  // it outlives its generations.
  LocalChatModel(Engine& engine, const tokenizer::Tokenizer& tokenizer, Renderer renderer,
                 chat::ChatModelInfo info, Adapters* adapters = nullptr);

  const chat::ChatModelInfo& info() const override { return info_; }
  chat::ChatModelStatus status() const override;
  std::string render(const chat::Conversation& conversation) const override;
  std::vector<int32_t> tokenize(std::string_view text, bool add_special, bool parse_special) const override;
  std::string detokenize(std::span<const int32_t> tokens) const override;
  std::string token_text(int32_t token) const override;
  std::shared_ptr<const text::Grammar> compile_grammar(const text::GrammarSpec& spec) const override;
  std::unique_ptr<chat::Generation> generate(chat::GenerationRequest request) override;
  bool cancel(std::string_view id) override;
  std::vector<chat::AdapterPtr> adapters() const override;
  chat::AdapterPtr find_adapter(std::string_view name) const override;
  chat::AdapterPtr load_adapter(const std::string& name, const std::filesystem::path& path,
                                chat::IfLoaded if_loaded) override;
  void unload_adapter(std::string_view name) override;
  void check_admission() const override { engine_.check_admission(); }
  std::vector<chat::MemoryUse> memory() const override;
  void declare_dead(const std::string& why) override { engine_.declare_dead(why); }
  void set_wake(std::function<void()> wake) override;

  chat::ModelAdmin* admin() override { return this; }
  chat::SleepState sleep_state() const override { return engine_.sleep_state(); }
  void fall_asleep() override { engine_.fall_asleep(); }
  chat::SleepReport sleep() override;
  void wake_up() override { engine_.wake_up(); }
  chat::PrefixReport save_prefix(const std::filesystem::path& file, const std::vector<int32_t>& tokens,
                                 const std::string& cache_salt, int64_t bytes_max) override;
  chat::PrefixReport restore_prefix(const std::filesystem::path& file, const std::string& cache_salt,
                                    int64_t bytes_max) override;

 private:
  friend class LocalGeneration;
  void check_token(int32_t token) const;
  void forget(const Sequence& sequence);

  Engine& engine_;
  const tokenizer::Tokenizer& tokenizer_;
  const Renderer renderer_;
  const chat::ChatModelInfo info_;
  Adapters* const adapters_;
  mutable text::GrammarCache grammars_;
  const std::shared_ptr<const chat::ThinkingTokens> thinking_;  // of a model that thinks
  std::mutex mutex_;                                            // guards the one below
  std::unordered_multimap<std::string, SequencePtr> by_id_;     // generations that somebody holds
};

}  // namespace neutrino::engine
