// The bodies of POST /v1/score (vLLM's) and /v1/rerank (Cohere's and Jina's) as types, and what scores are made of.
//
// A reranker reads both texts of a pair at once and gives a number: its sigmoid is the score, or with two classes the
// probability of the first. An embedding model reads each text by itself, and the score is the cosine of the two vectors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/inference_request.h"

namespace neutrino::server {

struct ScoreBody {
  std::string model;               // as the client called it
  chat::EmbeddingRequest request;  // of a reranker one input a pair, of an embedding model one a text
  std::vector<std::pair<size_t, size_t>> pairs;  // of an embedding model: whose vectors are compared
  bool activation = true;                        // false: a reranker's raw numbers
  int64_t prompt_tokens = 0;
  std::vector<std::string> ignored;  // fields that have no effect
};

struct RerankBody : ScoreBody {
  std::vector<std::string> documents;
  int64_t top_n = 0;  // at most as many as there are documents
  bool return_documents = true;
};

// Both tokenize their texts, so not on an io thread. Throw Error{invalid_argument, not_found}.
ScoreBody parse_score_request(std::string_view body, const ModelView& view, const chat::ChatModel& model);
RerankBody parse_rerank_request(std::string_view body, const ModelView& view, const chat::ChatModel& model);

// One a pair, in their order.
std::vector<double> scores_of(const ScoreBody& body, const chat::EmbeddingResult& result);

}  // namespace neutrino::server
