// An embedding model or a reranker behind the waist: texts are packed into batches without padding, and each becomes one vector.
//
// One thread takes inputs in the order of their requests and fills batches of at most `batch_tokens` rows with them; inputs
// of different requests stand side by side, and a vector does not depend on its neighbours. A text that looks both ways goes
// in whole; a causal one may be longer than a batch.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "chat/chat_model.h"
#include "compute/backend.h"
#include "models/model.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::engine {

struct EmbeddingOptions {
  int64_t batch_tokens =
      0;  // rows of a step; 0: the default of base/limits.h, and at least a bidirectional context
  int64_t queued_inputs_max = 0;     // of all requests; 0: the default
  std::string model_name = "model";  // label of the metrics
  // How a reranker wants its two texts, with {query} and {document} in it; empty: as its tokenizer joins a pair.
  std::string pair_prompt = {};
};

class LocalEmbeddingModel final : public chat::ChatModel {
 public:
  // All references outlive this object. The backend and its scratch belong to it from here on.
  LocalEmbeddingModel(const models::Model& model, compute::Backend& backend,
                      const tokenizer::Tokenizer& tokenizer, chat::ChatModelInfo info,
                      EmbeddingOptions options, Metrics& metrics, const Clock& clock);
  ~LocalEmbeddingModel() override;

  const chat::ChatModelInfo& info() const override { return info_; }
  chat::ChatModelStatus status() const override;
  std::string render(const chat::Conversation& conversation) const override;  // throws: there is no chat
  std::vector<int32_t> tokenize(std::string_view text, bool add_special, bool parse_special) const override;
  chat::TextPair tokenize_pair(std::string_view first, std::string_view second) const override;
  std::string detokenize(std::span<const int32_t> tokens) const override;
  std::string token_text(int32_t token) const override;
  std::unique_ptr<chat::Generation> generate(chat::GenerationRequest request) override;  // throws
  std::unique_ptr<chat::Embedding> embed(chat::EmbeddingRequest request) override;
  bool cancel(std::string_view id) override;
  void set_wake(std::function<void()> wake) override;

  int64_t kv_bytes() const { return cache_->bytes(); }

 private:
  struct Job;          // a request
  struct Input;        // one of its texts, with what is computed of it
  class JobEmbedding;  // its consumer's handle
  struct Step;         // a batch being made

  void check_request(const chat::EmbeddingRequest& request) const;
  void check_segments(const chat::EmbeddingRequest& request) const;
  void run();
  bool plan(Step& step);
  void lay_out(Step& step) const;
  void compute(Step& step);
  void finish_texts(const Step& step);
  void fail(const Step& step, const Error& error);
  void finish(Job& job, std::optional<Error> error);
  void wake();
  void die(const Step& step, const char* what);
  void drop(const std::shared_ptr<Job>& job);

  const models::Model& model_;
  compute::Backend& backend_;
  const tokenizer::Tokenizer& tokenizer_;
  const chat::ChatModelInfo info_;
  EmbeddingOptions options_;
  const Clock& clock_;
  std::unique_ptr<compute::KvCache> cache_;
  Counter &prompt_tokens_, &texts_, &steps_, &rejected_;
  Gauge &running_gauge_, &waiting_gauge_;
  Histogram& latency_;

  mutable std::mutex mutex_;               // guards all below
  std::condition_variable arrived_;        // for the thread
  std::condition_variable finished_;       // for wait()
  std::deque<std::shared_ptr<Job>> jobs_;  // that have inputs left, in order
  int64_t queued_inputs_ = 0;
  int64_t running_inputs_ = 0;
  std::function<void()> wake_;
  std::string death_message_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace neutrino::engine
