#include "server/embedding_run.h"

#include <algorithm>
#include <chrono>

#include "base/random.h"
#include "net/rate_limit.h"
#include "server/answer_json.h"
#include "server/deadline.h"

namespace neutrino::server {
namespace {

int64_t tokens_of(const chat::EmbeddingRequest& embedding) {
  int64_t tokens = 0;
  for (const std::vector<int32_t>& input : embedding.inputs) tokens += static_cast<int64_t>(input.size());
  return tokens;
}

asio::awaitable<std::optional<chat::EmbeddingResult>> follow(chat::Embedding& embedding,
                                                             const net::Request& request,
                                                             net::Response& response) {
  for (;;) {
    if (response.interruption() == net::Interruption::shutdown)
      throw Error(ErrorCode::unavailable, "the server shut down before the answer was complete")
          .with_reason("draining");
    if (response.interruption() != net::Interruption::none) co_return std::nullopt;
    std::optional<chat::EmbeddingResult> result = embedding.poll();
    if (result) co_return result;
    const int64_t left_ms = timeout_left_ms(request, std::nullopt).value_or(1000);
    co_await response.signal().wait(std::chrono::milliseconds(std::min<int64_t>(left_ms, 1000)));
  }
}

}  // namespace

std::string new_answer_id(std::string_view prefix) {
  return fmt::format("{}{:016x}{:016x}", prefix, system_entropy(), system_entropy());
}

asio::awaitable<std::optional<chat::EmbeddingResult>> run_embedding(Services& services,
                                                                    const net::Request& request,
                                                                    net::Response& response,
                                                                    chat::EmbeddingRequest embedding) {
  const auto start = std::chrono::steady_clock::now();
  const net::Wakeups::Subscription subscription(services.wakeups, response.signal());
  const std::string id = embedding.id;
  const int64_t tokens = tokens_of(embedding);
  net::TokenReservation reservation(request, response, tokens, 0);
  const auto running = services.chat_model.embed(std::move(embedding));
  reservation.settle(tokens);  // all of them will be computed
  response.trace.emplace_back("gen_ai.usage.input_tokens", tokens);
  const ActiveRequests::Listing listing(services.active, {.request_id = request.id,
                                                          .answer_id = id,
                                                          .key_name = request.key_name,
                                                          .cancel = [&] { services.chat_model.cancel(id); }});
  std::optional<chat::EmbeddingResult> result = co_await follow(*running, request, response);
  if (result && result->error) throw *result->error;
  const auto elapsed = (std::chrono::steady_clock::now() - start) / std::chrono::milliseconds(1);
  response.set_header("openai-processing-ms", std::to_string(elapsed));
  co_return result;
}

void account_for(net::Response& response, const EmbeddingAccount& account) {
  response.set_header("x-model", header_text(account.model));
  if (!account.ignored.empty())
    response.set_header("X-Ignored-Params", header_text(joined(account.ignored, ",")));
  response.log["model"] = account.model;
  response.trace.emplace_back("gen_ai.request.model", account.model);
  response.log["texts"] = account.texts;
  response.log["prompt_tokens"] = account.prompt_tokens;
}

}  // namespace neutrino::server
