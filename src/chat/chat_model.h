// The narrow waist: a conversation in, tokens out.
//
// The local engine implements it, a remote endpoint will, and a scripted fake does in tests; the server, the terminal and
// everything above are written against it alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "chat/adapter.h"
#include "chat/answer_style.h"
#include "chat/message.h"

namespace neutrino::text {
class Grammar;
struct GrammarSpec;
}  // namespace neutrino::text

namespace neutrino::chat {

class ModelAdmin;  // chat/model_admin.h

// OpenAI's names and meanings. Values are checked by whoever builds one from a request, and once more by the engine.
struct SamplingParameters {
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  double repetition_penalty = 1.0;
  std::optional<uint64_t> seed = {};  // absent: drawn from the operating system
  std::vector<std::pair<int32_t, float>> logit_bias = {};
  std::vector<int32_t> stop_token_ids = {};
  std::vector<std::string> stop = {};  // on the text of the answer
  bool include_stop_in_output = false;
  bool ignore_eos = false;
  int64_t min_tokens = 0;
  int64_t max_tokens = 16;
  std::optional<int64_t> logprobs = {};  // top alternatives per generated token, 0 ... 20; absent: none
  std::optional<int64_t> prompt_logprobs = {};  // likewise per prompt token (echo with logprobs)
  bool skip_special_tokens = true;
  // Guesses that a step may check for this answer (engine/speculation.h), at most; 0: none; absent: as the server was told.
  // Its tokens are the same with any number.
  std::optional<int64_t> draft_tokens = {};
};

struct AnswerSyntax;    // chat/answer_syntax.h
struct ThinkingTokens;  // chat/thinking_tokens.h

struct GenerationRequest {
  std::string id = {};               // unique; cancel by it
  std::vector<int32_t> prompt = {};  // not empty, ids in [0, vocabulary)
  SamplingParameters sampling = {};
  std::string cache_salt = {};  // prefix blocks are shared only inside one salt
  std::shared_ptr<const text::Grammar> grammar =
      {};                   // of compile_grammar(); the answer follows it. Absent: free
  AdapterPtr adapter = {};  // of this model (ChatModel::find_adapter()); null: the weights alone
  // How reasoning and tool calls are told from the rest of the answer; absent: all of it is content.
  std::shared_ptr<const AnswerSyntax> answer = {};
  // At most so many tokens between the reasoning tags, which must be among the answer's; then the reasoning is ended.
  std::optional<int64_t> thinking_budget = {};
  std::shared_ptr<const ThinkingTokens> thinking = {};  // generate() fills it in
  int64_t priority = 0;          // lower values are served first; among equals, who came first
  int64_t timeout_ms = 0;        // from now on; past it it ends with Error{deadline_exceeded}. 0: none
  bool report_progress = false;  // pieces with PromptProgress while the prompt is computed
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // log softmax of the raw logits, before penalties and temperature
};

// What a token of an answer is part of. A token that is content and something else counts as content; `markup` is a tag or a
// tool call.
enum class TokenPart : uint8_t { content, reasoning, markup };

struct GeneratedToken {
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top = {};  // best first
  std::string text = {};  // what this token added to the text so far (its bytes, as far as they are valid)
  TokenPart part = TokenPart::content;
};

// Some more of an answer that was taken apart (GenerationRequest::answer). The pieces of a generation, in their order, are its
// answer: texts of one kind (and one call) belong together, however they were cut.
struct AnswerPiece {
  enum class Kind : uint8_t { reasoning, content, call_begin, call_arguments, call_end };
  Kind kind = Kind::content;
  std::string text = {};     // reasoning, content; call_arguments: JSON text
  int64_t call = 0;          // which tool call of the answer, from 0; they follow one another
  std::string call_id = {};  // call_begin
  std::string name = {};     // call_begin: of the function

  bool operator==(const AnswerPiece&) const = default;
};

enum class FinishReason { stop, length, cancelled, error };

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t reasoning_tokens = 0;  // of the completion's: between the reasoning tags
};

struct Timings {
  double queue_ms = 0, prefill_ms = 0, decode_ms = 0;
};

// How far a prompt is; `processed` counts what was cached.
struct PromptProgress {
  int64_t total = 0, cached = 0, processed = 0;
  double time_ms = 0;  // since its first step
};

// More of an answer. `text` is its content: valid UTF-8, and certain: it can no longer become a stop string. The tokens that made
// it come with it or earlier. `pieces` is the same content, and the reasoning and the tool calls, in order; a generation
// without GenerationRequest::answer has none. The last chunk, and only it, has finish_reason.
struct GenerationChunk {
  std::string text = {};
  std::vector<AnswerPiece> pieces = {};
  std::vector<GeneratedToken> tokens = {};
  std::optional<FinishReason> finish_reason = {};
  std::string stop_reason =
      {};                     // the stop string that matched, or the stop token's id in decimal; else empty
  bool parse_failed = false;  // with the last chunk: a tool call was begun, but is none; its text is content
  std::optional<Error> error = {};  // with FinishReason::error
  Usage usage = {};                 // so far
  Timings timings = {};             // with the last piece
  std::optional<PromptProgress> progress = {};
  std::vector<GeneratedToken>
      prompt_tokens;  // with the first piece, if prompt_logprobs was asked for; the first has no logprob (NaN)
};

// One running generation. Its consumer is one thread at a time. Destroying it cancels.
class Generation {
 public:
  virtual ~Generation() = default;
  virtual std::optional<GenerationChunk> poll() = 0;  // all that is there now, merged; nullopt: nothing new
  virtual GenerationChunk wait() = 0;                 // blocks until something is there (terminal, tests)
  virtual void cancel() = 0;                          // takes effect within one engine step
};

// Texts to vectors. Each input holds the tokens of one text, special tokens and all.
struct EmbeddingRequest {
  std::string id = {};  // unique; cancel by it
  std::vector<std::vector<int32_t>> inputs =
      {};  // none empty, none longer than the context, ids in [0, vocabulary)
  // Of each input's tokens, as tokenize_pair() gave them; none: of no input. Only rerankers read them.
  std::vector<std::vector<int32_t>> segments = {};
};

// Two texts as one input of a reranker.
struct TextPair {
  std::vector<int32_t> tokens = {};
  std::vector<int32_t> segments = {};  // one a token, or none: the model knows no segments
};

struct EmbeddingResult {
  // One an input, embedding_size wide, of length 1; of a reranker, its raw scores: the first one counts.
  std::vector<std::vector<float>> vectors = {};
  std::optional<Error> error = {};  // then there are no vectors
};

// One running embedding. Destroying it cancels.
class Embedding {
 public:
  virtual ~Embedding() = default;
  virtual std::optional<EmbeddingResult> poll() = 0;  // nullopt: not done yet; the result is given out once
  virtual EmbeddingResult wait() = 0;                 // blocks (terminal, tests)
};

// Around which a model fills in a middle: prefix, text before, suffix, text behind, middle; the answer is what stands between.
struct FillInTokens {
  int32_t prefix = -1, suffix = -1, middle = -1;
};

struct ChatModelInfo {
  std::string name = {};         // default served name
  std::string fingerprint = {};  // weights hash + build + kernel table: what makes a seed repeatable
  int64_t context_tokens = 0;
  int64_t vocab_size = 0;
  int64_t embedding_size = 0;  // of an embedding model's vectors; 0: this model makes none
  bool reranker = false;       // scores pairs of texts. Without either this model generates text
  int64_t created_unix = 0;
  bool has_chat_template = false;
  std::string chat_template = {};  // its source
  AnswerStyle answer = {};         // how the model writes reasoning and tool calls
  std::string template_sha256 = {};
  json::object metadata = {};  // architecture, quantisation, memory figures, defaults: for /v1/metadata
  std::optional<FillInTokens> fill_in = {};  // absent: it cannot
  json::object license = {};                 // for /v1/license
  json::object manifest = {};                // the model's files: for /v1/manifest
  SamplingParameters defaults = {};          // from the model's generation config
};

struct ChatModelStatus {
  bool ready = false;       // weights loaded and the engine made progress lately
  bool dead = false;        // a bug ended the engine; the process exits soon
  std::string reason = {};  // why not ready
  int64_t running = 0, waiting = 0;
  int64_t kv_blocks_referenced = 0, kv_blocks_cached = 0, kv_blocks_free = 0;
  int64_t since_progress_ns = 0;   // for how long the engine has been busy without a step's end
  double queue_drain_seconds = 0;  // estimate: how long until a new request would start; for Retry-After
};

// Something that holds memory, and how much of it there can be.
struct MemoryUse {
  std::string name = {};
  int64_t bytes = 0, bytes_max = 0;
};

class ChatModel {
 public:
  virtual ~ChatModel() = default;
  virtual const ChatModelInfo& info() const = 0;
  virtual ChatModelStatus status() const = 0;

  // Template, then tokens. Throws Error{invalid_argument, reason "template_error"} and the like. Any thread; may take
  // milliseconds, so not on an io thread.
  virtual std::string render(const Conversation& conversation) const = 0;
  virtual std::vector<int32_t> tokenize(std::string_view text, bool add_special,
                                        bool parse_special) const = 0;
  virtual std::string detokenize(std::span<const int32_t> tokens) const = 0;
  virtual std::string token_text(int32_t token) const = 0;  // its bytes, as they are

  // A constraint for generate(), from a cache or compiled. Any thread; may take milliseconds, so not on an io thread. Throws
  // Error{invalid_argument} as text::Grammar does, and for a model that takes no constraints: what this does unless it is
  // overridden.
  virtual std::shared_ptr<const text::Grammar> compile_grammar(const text::GrammarSpec& spec) const;

  // Queues a generation. Throws Error{invalid_argument} for a request that can never run (reason
  // "context_length_exceeded", ...), Error{resource_exhausted, "queue_full" | "deadline_unreachable"},
  // Error{unavailable, "draining" | "engine_dead"}. Any thread.
  virtual std::unique_ptr<Generation> generate(GenerationRequest request) = 0;
  // Two texts in the form in which a reranker compares them. Throws Error{invalid_argument} for another model, which is what
  // this does unless it is overridden, and Error{unimplemented} where the model's files say no such form.
  virtual TextPair tokenize_pair(std::string_view first, std::string_view second) const;
  // Queues texts to be embedded, or pairs to be scored. Throws as generate() does, and Error{invalid_argument} for a model
  // that makes no embeddings: what this does unless it is overridden.
  virtual std::unique_ptr<Embedding> embed(EmbeddingRequest request);
  virtual bool cancel(std::string_view id) = 0;  // false: no such generation or embedding
  // Throws what generate() would throw now for any request (queue_full, engine_dead), before anybody has rendered or tokenised
  // it. Cheap; any thread.
  virtual void check_admission() const {}
  virtual std::vector<MemoryUse> memory() const { return {}; }  // any thread; for /v1/metadata
  // Any thread, told by a watchdog: something hangs, and the process is about to end. From now on status() says dead.
  virtual void declare_dead(const std::string& /*why*/) {}

  // The calls of an operator; nullptr: this model has none.
  virtual ModelAdmin* admin() { return nullptr; }

  // Adapters beside the weights, by name. Any thread; a model without them has none and refuses to load any.
  virtual std::vector<AdapterPtr> adapters() const { return {}; }
  virtual AdapterPtr find_adapter(std::string_view) const { return nullptr; }  // null: no such adapter
  // A PEFT folder or a GGUF adapter on this machine. Takes as long as reading it does. Throws Error.
  virtual AdapterPtr load_adapter(const std::string& adapter_name, const std::filesystem::path& path,
                                  IfLoaded if_loaded);
  virtual void unload_adapter(
      std::string_view adapter_name);  // requests that run keep it; throws Error{not_found}

  // Called on the engine thread at most once per step, after pieces became available; must neither block nor allocate.
  virtual void set_wake(std::function<void()> wake) = 0;
};

}  // namespace neutrino::chat
