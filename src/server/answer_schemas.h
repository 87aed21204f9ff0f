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

// ---- Anthropic's API

inline constexpr std::string_view kMessagesAnswer = R"({"type":"object",
  "required":["id","type","role","model","content","stop_reason","stop_sequence","usage"],
  "properties":{"id":{"type":"string"},"type":{"const":"message"},"role":{"const":"assistant"},"model":{"type":"string"},
    "stop_reason":{"enum":["end_turn","max_tokens","stop_sequence","tool_use"]},"stop_sequence":{"type":["string","null"]},
    "usage":{"type":"object","required":["input_tokens","output_tokens","cache_creation_input_tokens","cache_read_input_tokens"],
      "additionalProperties":{"type":"integer","minimum":0}},
    "content":{"type":"array","items":{"type":"object","required":["type"],"oneOf":[
      {"required":["text"],"properties":{"type":{"const":"text"},"text":{"type":"string"}}},
      {"required":["thinking","signature"],
       "properties":{"type":{"const":"thinking"},"thinking":{"type":"string"},"signature":{"type":"string"}}},
      {"required":["id","name","input"],"properties":{"type":{"const":"tool_use"},"id":{"type":"string"},
        "name":{"type":"string"},"input":{"type":"object"}}}]}}}})";

inline constexpr std::string_view kCountTokensAnswer = R"({"type":"object","required":["input_tokens"],
  "properties":{"input_tokens":{"type":"integer","minimum":1}},"additionalProperties":false})";

// ---- OpenAI's newer API

inline constexpr std::string_view kResponsesAnswer = R"({"type":"object",
  "required":["id","object","created_at","status","background","error","incomplete_details","instructions","max_output_tokens",
    "metadata","model","output","parallel_tool_calls","previous_response_id","reasoning","store","temperature","text","tool_choice",
    "tools","top_p","truncation","usage","user"],
  "properties":{"id":{"type":"string"},"object":{"const":"response"},"created_at":{"type":"integer"},"model":{"type":"string"},
    "status":{"enum":["completed","incomplete"]},"background":{"const":false},"store":{"const":false},"error":{"type":"null"},
    "incomplete_details":{"type":["object","null"],"required":["reason"],"properties":{"reason":{"const":"max_output_tokens"}}},
    "instructions":{"type":["string","null"]},"max_output_tokens":{"type":["integer","null"]},"metadata":{"type":"object"},
    "parallel_tool_calls":{"type":"boolean"},"previous_response_id":{"type":"null"},"temperature":{"type":"number"},
    "top_p":{"type":"number"},"text":{"type":"object"},"reasoning":{"type":"object"},"tool_choice":{"type":["string","object"]},
    "tools":{"type":"array","items":{"type":"object"}},"truncation":{"const":"disabled"},"user":{"type":["string","null"]},
    "usage":{"type":"object","required":["input_tokens","input_tokens_details","output_tokens","output_tokens_details","total_tokens"],
      "properties":{"input_tokens":{"type":"integer"},"output_tokens":{"type":"integer"},"total_tokens":{"type":"integer"},
        "input_tokens_details":{"type":"object","required":["cached_tokens"]},
        "output_tokens_details":{"type":"object","required":["reasoning_tokens"]}}},
    "output":{"type":"array","items":{"type":"object","required":["id","type","status"],
      "properties":{"id":{"type":"string"},"status":{"enum":["completed","incomplete"]}},"oneOf":[
      {"required":["role","content"],"properties":{"type":{"const":"message"},"role":{"const":"assistant"},
        "content":{"type":"array","items":{"type":"object","required":["type","text","annotations","logprobs"],
          "properties":{"type":{"const":"output_text"},"text":{"type":"string"}}}}}},
      {"required":["summary","content"],"properties":{"type":{"const":"reasoning"},"summary":{"type":"array"},
        "content":{"type":"array","items":{"type":"object","required":["type","text"],
          "properties":{"type":{"const":"reasoning_text"},"text":{"type":"string"}}}}}},
      {"required":["call_id","name","arguments"],"properties":{"type":{"const":"function_call"},"call_id":{"type":"string"},
        "name":{"type":"string"},"arguments":{"type":"string"}}}]}}}})";

// ---- scores

inline constexpr std::string_view kScoreAnswer =
    R"({"type":"object","required":["id","object","created","model","data","usage"],
  "properties":{"id":{"type":"string"},"object":{"const":"list"},"created":{"type":"integer"},"model":{"type":"string"},
    "usage":{"$ref":"#/components/schemas/Usage"},
    "data":{"type":"array","minItems":1,"items":{"type":"object","required":["index","object","score"],
      "properties":{"index":{"type":"integer","minimum":0},"object":{"const":"score"},"score":{"type":"number"}}}}}})";

inline constexpr std::string_view kRerankAnswer =
    R"({"type":"object","required":["id","model","results","usage"],
  "properties":{"id":{"type":"string"},"model":{"type":"string"},"usage":{"$ref":"#/components/schemas/Usage"},
    "results":{"type":"array","minItems":1,"items":{"type":"object","required":["index","relevance_score"],
      "properties":{"index":{"type":"integer","minimum":0},"relevance_score":{"type":"number"},
        "document":{"type":"object","required":["text"],"properties":{"text":{"type":"string"}}}}}}}})";

// ---- requests written down

inline constexpr std::string_view kRenderChatAnswer = R"({"type":"object",
  "required":["model","prompt","token_ids","count","max_model_len","max_tokens","sampling_params","structured_outputs",
    "thinking_token_budget","reasoning","truncate_prompt_tokens","cache_salt","priority","timeout_ms","stream","stream_options"],
  "properties":{"model":{"type":"string"},"prompt":{"type":"string"},"token_ids":{"type":"array","items":{"type":"integer"}},
    "count":{"type":"integer","minimum":1},"max_model_len":{"type":"integer"},"max_tokens":{"type":"integer","minimum":1},
    "sampling_params":{"type":"object","required":["n","temperature","top_p","top_k","max_tokens","seed","stop"]},
    "structured_outputs":{"type":["object","null"],"required":["type","text"]},"thinking_token_budget":{"type":["integer","null"]},
    "reasoning":{"type":["object","null"],"required":["strategy","n"]},"truncate_prompt_tokens":{"type":["integer","null"]},
    "cache_salt":{"type":"string"},"priority":{"type":"integer"},"timeout_ms":{"type":["integer","null"]},
    "stream":{"type":"boolean"},"stream_options":{"type":"object"}}})";

// Of each prompt the same as of a conversation, the route above this one in the document.
inline constexpr std::string_view kRenderCompletionsAnswer = R"({"type":"object","required":["object","data"],
  "properties":{"object":{"const":"list"},"data":{"type":"array","minItems":1,"items":
    {"$ref":"#/paths/~1v1~1chat~1completions~1render/post/responses/200/content/application~1json/schema"}}}})";

// ---- an operator's calls

inline constexpr std::string_view kSleepAnswer = R"({"type":"object","required":["is_sleeping"],
  "properties":{"is_sleeping":{"type":"boolean"},"released_kv_bytes":{"type":"integer","minimum":0},
    "released_weight_bytes":{"type":"integer","minimum":0},"kept":{"type":"string"}}})";

inline constexpr std::string_view kPrefixesAnswer = R"({"type":"object","required":["object","data"],
  "properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","required":["id","bytes"],
    "properties":{"id":{"type":"string"},"bytes":{"type":"integer","minimum":0}}}}}})";

inline constexpr std::string_view kPrefixAnswer = R"({"type":"object","required":["id","tokens","bytes"],
  "properties":{"id":{"type":"string"},"tokens":{"type":"integer","minimum":0},"bytes":{"type":"integer","minimum":0}}})";

inline constexpr std::string_view kPrefixDeletedAnswer = R"({"type":"object","required":["id","deleted"],
  "properties":{"id":{"type":"string"},"deleted":{"const":true}}})";

// ---- the model's papers

inline constexpr std::string_view kLicenseAnswer = R"({"type":"object"})";  // whatever the model's files say

inline constexpr std::string_view kManifestAnswer =
    R"({"type":"object","required":["manifest_file","repository_override","manifest"],
  "properties":{"manifest_file":{"type":"string"},"repository_override":{"type":"string"},"manifest":{"type":"object"}}})";

inline constexpr std::string_view kDocumentAnswer =
    R"({"type":"object","required":["openapi","info","paths"]})";

}  // namespace neutrino::server
