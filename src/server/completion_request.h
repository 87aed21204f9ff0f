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
  std::optional<std::string> suffix;  // what follows the text that is to be filled in
  bool echo = false;
};

CompletionRequest parse_completion_request(std::string_view body, const ModelView& model);

// Gives every prompt its tokens: of its text, and with a suffix of the form in which the model fills in a middle. Not on an io
// thread.
void tokenize_prompts(const chat::ChatModel& model, CompletionRequest& request);

}  // namespace neutrino::server
