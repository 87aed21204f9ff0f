// One request through the model, from planned sequences to an answer: submit, follow, stream or collect, account.
//
// What differs between routes is how an answer is written down; that is an AnswerFormat.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/response.h"
#include "server/chat_request.h"
#include "server/inference_request.h"
#include "server/services.h"

namespace neutrino::server {

namespace asio = boost::asio;

struct ToolCall {
  std::string id, name;
  std::string arguments;  // JSON text of an object; cut off where the answer was
};

// One choice of the answer: what is asked for, and what came so far.
struct Choice {
  int64_t index = 0;
  size_t prompt_index = 0;  // which of the request's prompts
  std::vector<int32_t> prompt;
  std::string prompt_text;  // when it is to be echoed
  chat::SamplingParameters sampling;
  bool echo_only = false;  // max_tokens 0: nothing of what is generated is shown

  std::unique_ptr<chat::Generation> generation;
  std::string text;  // the content
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
  bool parse_failed = false;
  std::vector<chat::AnswerPiece> pieces;     // all of it, in order
  std::vector<chat::GeneratedToken> tokens;  // of all of it; GeneratedToken::part says which
  std::vector<chat::GeneratedToken> prompt_tokens;
  std::optional<chat::FinishReason> finish_reason;
  std::string stop_reason;
  chat::Usage usage;
  chat::Timings timings;
};

struct Answer {
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  std::string fingerprint;
  const InferenceRequest* request = nullptr;
  chat::AdapterPtr
      adapter;  // that the request's model name stands for, held to the end; null: the model itself
  std::vector<Choice> choices;
  chat::Usage other_usage = {};                // of candidates that were not chosen: their completions
  std::optional<json::object> selection = {};  // how a candidate was chosen, for the answer
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  virtual std::string_view id_prefix() const = 0;
  // Events in place before the first token; may be none.
  virtual std::vector<json::object> opening(const Answer& answer) const = 0;
  // Events for a piece of a choice, and those that finish it. The choice holds all up to and with the piece, and
  // piece.pieces what is new, in order.
  virtual std::vector<json::object> piece(const Answer& answer, const Choice& choice,
                                          const chat::GenerationChunk& piece) const = 0;
  virtual std::vector<json::object> finish(const Answer& answer, const Choice& choice) const = 0;
  virtual json::object usage_event(const Answer& answer) const = 0;
  virtual json::object whole(const Answer& answer) const = 0;
  // The `event:` line over an event's data; empty: none.
  virtual std::string_view event_name(const json::object&) const { return {}; }
  virtual bool ends_with_done() const { return true; }  // with `data: [DONE]`
};

// Submits all choices (all or none), then streams or collects, as the request says. Throws what ends the request.
asio::awaitable<void> answer_request(Services& services, const net::Request& request, net::Response& response,
                                     const InferenceRequest& inference, std::vector<Choice> choices,
                                     const AnswerFormat& format);

// n choices of one prompt with seeds seed, seed+1, ...; appends to `choices`.
void plan_choices(std::vector<Choice>& choices, const InferenceRequest& request, size_t prompt_index,
                  std::vector<int32_t> prompt, std::string prompt_text, const chat::ChatModelInfo& info);

// The choices of a conversation: its template rendered and tokenized, its answer's constraint compiled, so not on an io thread.
std::vector<Choice> plan_chat(const chat::ChatModel& model, ChatRequest& chat);

// Prefix blocks are shared only by requests of the same key with the same salt: what stands for both in the engine.
std::string salt_of(const std::string& key_name, const std::string& cache_salt);
// A refusal that costs nothing, before anything is parsed or tokenised. A body that speaks of a priority has to be read first, where
// the route knows priorities.
void refuse_early(const Services& services, const net::Request& request);

// What is new of one choice, added to what it has; nullopt: nothing. Throws what ends the request.
std::optional<chat::GenerationChunk> next_piece(Choice& choice);

// False: the client is gone. Throws when the server shuts down.
bool still_wanted(const net::Response& response);

// "Retry-After" and its friends for what is worth trying again.
void add_retry_headers(net::Response& response, const Error& error, double drain_seconds);

}  // namespace neutrino::server
