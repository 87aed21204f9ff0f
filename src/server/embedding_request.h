// The body of POST /v1/embeddings as types.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/inference_request.h"

namespace neutrino::server {

enum class EmbeddingFormat { floats, base64 };

struct EmbeddingBody {
  std::string model;  // as the client called it
  std::vector<std::vector<int32_t>> inputs;
  EmbeddingFormat format = EmbeddingFormat::floats;
  int64_t prompt_tokens = 0;
  std::vector<std::string> ignored;  // fields that have no effect
};

// Tokenizes texts, and cuts inputs where truncate_prompt_tokens says so. Throws Error{invalid_argument, not_found}.
EmbeddingBody parse_embedding_request(std::string_view body, const ModelView& view,
                                      const chat::ChatModel& model);

// What an embedding model's tokenizer puts behind every text ("[SEP]").
std::vector<int32_t> find_suffix(const chat::ChatModel& model);
// The tokens of `bare` from the first one on in which `other` differs.
std::vector<int32_t> tokens_behind(const std::vector<int32_t>& bare, const std::vector<int32_t>& other);

}  // namespace neutrino::server
