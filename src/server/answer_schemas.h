// What each route's 200 looks like, as JSON Schema: for /openapi.json. Clients are generated from it, and tests hold every answer
// against it. What a schema does not name may be there, too.
#pragma once

#include <string_view>

namespace neutrino::server {

inline constexpr std::string_view kStatusAnswer =
    R"({"type":"object","required":["status"],"properties":{"status":{"type":"string"}}})";

inline constexpr std::string_view kChatAnswer = R"({"type":"object",
  "required":["id","object","created","model","choices","usage","system_fingerprint"],
  "properties":{"id":{"type":"string"},"object":{"const":"chat.completion"},"created":{"type":"integer"},"model":{"type":"string"},
    "system_fingerprint":{"type":"string"},"usage":{"$ref":"#/components/schemas/Usage"},
    "choices":{"type":"array","minItems":1,"items":{"type":"object","required":["index","message","logprobs","finish_reason"],
      "properties":{"index":{"type":"integer"},"logprobs":{"type":["object","null"]},
        "finish_reason":{"enum":["stop","length","tool_calls","content_filter"]},
        "message":{"type":"object","required":["role","content","refusal"],
          "properties":{"role":{"const":"assistant"},"content":{"type":["string","null"]},"refusal":{"type":["string","null"]},
            "tool_calls":{"type":"array","minItems":1,"items":{"type":"object"}}}}}}}}})";

inline constexpr std::string_view kCompletionAnswer = R"({"type":"object",
  "required":["id","object","created","model","choices","usage","system_fingerprint"],
  "properties":{"id":{"type":"string"},"object":{"const":"text_completion"},"created":{"type":"integer"},"model":{"type":"string"},
    "system_fingerprint":{"type":"string"},"usage":{"$ref":"#/components/schemas/Usage"},
    "choices":{"type":"array","minItems":1,"items":{"type":"object","required":["index","text","logprobs","finish_reason"],
      "properties":{"index":{"type":"integer"},"text":{"type":"string"},"logprobs":{"type":["object","null"]},
        "finish_reason":{"enum":["stop","length","content_filter"]}}}}}})";

inline constexpr std::string_view kEmbeddingAnswer =
    R"({"type":"object","required":["object","data","model","usage"],
  "properties":{"object":{"const":"list"},"model":{"type":"string"},"usage":{"type":"object","required":["prompt_tokens","total_tokens"]},
    "data":{"type":"array","items":{"type":"object","required":["object","index","embedding"],
      "properties":{"object":{"const":"embedding"},"index":{"type":"integer"},
        "embedding":{"type":["array","string"],"items":{"type":"number"}}}}}}})";

inline constexpr std::string_view kModelAnswer =
    R"({"type":"object","required":["id","object","created","owned_by"],
  "properties":{"id":{"type":"string"},"object":{"const":"model"},"created":{"type":"integer"},"owned_by":{"type":"string"},
    "max_model_len":{"type":"integer"}}})";

inline constexpr std::string_view kModelsAnswer = R"({"type":"object","required":["object","data"],
  "properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","required":["id","object"]}}}})";

inline constexpr std::string_view kTokenizeAnswer =
    R"({"type":"object","required":["count","max_model_len","tokens"],
  "properties":{"count":{"type":"integer"},"max_model_len":{"type":"integer"},"tokens":{"type":"array","items":{"type":"integer"}},
    "token_strs":{"type":["array","null"],"items":{"type":"string"}}}})";

inline constexpr std::string_view kDetokenizeAnswer =
    R"({"type":"object","required":["prompt"],"properties":{"prompt":{"type":"string"}}})";

inline constexpr std::string_view kCancelAnswer = R"({"type":"object","required":["id","cancelled"],
  "properties":{"id":{"type":"string"},"cancelled":{"type":"integer","minimum":1}}})";

inline constexpr std::string_view kVersionAnswer =
    R"({"type":"object","required":["version"],"properties":{"version":{"type":"string"}}})";

inline constexpr std::string_view kMetadataAnswer = R"({"type":"object",
  "required":["model","version","context_tokens","vocab_size","memory","sampling_defaults"],
  "properties":{"model":{"type":"string"},"version":{"type":"string"},"context_tokens":{"type":"integer"},
    "vocab_size":{"type":"integer"},"sampling_defaults":{"type":"object"},
    "memory":{"type":"object","required":["parts"],"properties":{"parts":{"type":"array","items":{"type":"object",
      "required":["name","bytes","bytes_max"],
      "properties":{"name":{"type":"string"},"bytes":{"type":"integer"},"bytes_max":{"type":"integer","minimum":1}}}}}}}})";

inline constexpr std::string_view kLoadAnswer = R"({"type":"object",
  "required":["server_load","num_requests_running","num_requests_waiting","kv_cache_usage_perc","expected_wait_seconds"],
  "properties":{"server_load":{"type":"integer"},"num_requests_running":{"type":"integer"},"num_requests_waiting":{"type":"integer"},
    "kv_cache_usage_perc":{"type":"number","minimum":0,"maximum":1},"expected_wait_seconds":{"type":"number","minimum":0}}})";

inline constexpr std::string_view kDocumentAnswer =
    R"({"type":"object","required":["openapi","info","paths"]})";

}  // namespace neutrino::server
