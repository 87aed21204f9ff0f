// POST /v1/score: how well do the two texts of a pair fit? In vLLM's shape. POST /v1/rerank: which documents fit a query
// best? In the shape of Cohere and Jina.
#include "server/score_request.h"

#include <algorithm>
#include <numeric>

#include "server/answer_json.h"
#include "server/embedding_run.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

json::object usage(int64_t tokens) {
  return {{"prompt_tokens", tokens}, {"completion_tokens", 0}, {"total_tokens", tokens}};
}

std::string score_text(const std::string& id, const ScoreBody& body, const chat::EmbeddingResult& result) {
  json::array data;
  for (const double score : scores_of(body, result))
    data.push_back(json::object{{"index", data.size()}, {"object", "score"}, {"score", score}});
  json::object answer{{"id", id}, {"object", "list"}};
  answer["created"] = std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1);
  answer["model"] = body.model;
  answer["data"] = std::move(data);
  answer["usage"] = usage(body.prompt_tokens);
  return to_text(answer);
}

// The best first; equal ones in the order of the documents.
std::string rerank_text(const std::string& id, const RerankBody& body, const chat::EmbeddingResult& result) {
  const std::vector<double> scores = scores_of(body, result);
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(body.top_n));
  json::array results;
  for (const size_t index : order) {
    json::object entry{{"index", index}, {"relevance_score", scores[index]}};
    if (body.return_documents) entry["document"] = json::object{{"text", body.documents[index]}};
    results.push_back(std::move(entry));
  }
  json::object answer{{"id", id}, {"model", body.model}};
  answer["results"] = std::move(results);
  answer["usage"] = usage(body.prompt_tokens);
  return to_text(answer);
}

template <typename Body>
asio::awaitable<void> answer(Services& services, const Request& request, Response& response,
                             std::string_view prefix,
                             Body (*parse)(std::string_view, const ModelView&, const chat::ChatModel&),
                             std::string (*make)(const std::string&, const Body&,
                                                 const chat::EmbeddingResult&)) {
  Body body;
  co_await services.workers.run([&] { body = parse(request.body, services.view(), services.chat_model); });
  account_for(response, {body.model, body.ignored, body.request.inputs.size(), body.prompt_tokens});
  const std::string id = body.request.id = new_answer_id(prefix);
  const auto result = co_await run_embedding(services, request, response, std::move(body.request));
  if (result) response.send(200, make(id, body, *result));
}

}  // namespace

asio::awaitable<void> score(Services& services, const Request& request, Response& response) {
  co_await answer(services, request, response, "score-", parse_score_request, score_text);
}

asio::awaitable<void> rerank(Services& services, const Request& request, Response& response) {
  co_await answer(services, request, response, "rerank-", parse_rerank_request, rerank_text);
}

}  // namespace neutrino::server::routes
