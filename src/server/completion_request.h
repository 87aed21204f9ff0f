// The body of POST /v1/completions as types.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/inference_request.h"

namespace neutrino::server {

struct Prompt {
  std::string text;  // unless it came as tokens
  std::vector<int32_t> tokens;
  bool is_text = true;
};

struct CompletionRequest : InferenceRequest {
  std::vector<Prompt> prompts;
  bool echo = false;
};

CompletionRequest parse_completion_request(std::string_view body, const ModelView& model);

}  // namespace neutrino::server
