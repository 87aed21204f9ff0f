// What a client may say in a body, per route: the table that rule "nothing is dropped silently" is kept by.
#pragma once

#include <array>

#include "base/limits.h"
#include "net/schema.h"
#include "server/deadline.h"

namespace neutrino::server {

using net::Field;
using net::kAny, net::kArray, net::kBoolean, net::kInteger, net::kNumber, net::kObject, net::kString;
using net::Support;

// Of `messages`, as OpenAI has them; chat_request.cpp reads them.
inline constexpr std::string_view kMessageItems =
    R"({"minItems":1,"maxItems":4096,"items":{"type":"object","required":["role"],"properties":{"role":{"enum":["system","developer","user","assistant","tool"]},"content":{"type":["string","array","null"]},"name":{"type":["string","null"]}}}})";

inline constexpr std::string_view kNotZero = R"({"not":{"const":0}})";

// Sampling and output, shared by chat and text completions.
inline constexpr auto kSamplingFields = std::to_array<Field>({
    {.name = "model", .types = kString, .required = true},
    {.name = "max_tokens", .types = kInteger, .minimum = 0},
    {.name = "temperature", .types = kNumber, .minimum = 0, .maximum = 2},
    {.name = "top_p", .types = kNumber, .minimum = 0, .maximum = 1, .above_minimum = true},
    {.name = "top_k", .types = kInteger, .minimum = -1, .maximum = 1 << 30},
    {.name = "min_p", .types = kNumber, .minimum = 0, .maximum = 1},
    {.name = "presence_penalty", .types = kNumber, .minimum = -2, .maximum = 2},
    {.name = "frequency_penalty", .types = kNumber, .minimum = -2, .maximum = 2},
    {.name = "repetition_penalty", .types = kNumber, .minimum = 0, .maximum = 100, .above_minimum = true},
    {.name = "seed", .types = kInteger},
    {.name = "n", .types = kInteger, .minimum = 1, .maximum = limits::kChoices},
    {.name = "stop",
     .types = kString | kArray,
     .items = R"({"items":{"type":"string","minLength":1},"minLength":1,"maxItems":16})"},
    {.name = "stop_token_ids",
     .types = kArray,
     .items = R"({"items":{"type":"integer","minimum":0},"maxItems":256})"},
    {.name = "include_stop_str_in_output", .types = kBoolean},
    {.name = "ignore_eos", .types = kBoolean},
    {.name = "min_tokens", .types = kInteger, .minimum = 0},
    {.name = "skip_special_tokens", .types = kBoolean},
    {.name = "add_special_tokens", .types = kBoolean},
    {.name = "truncate_prompt_tokens", .types = kInteger, .minimum = -1, .items = kNotZero},
    {.name = "logit_bias",
     .types = kObject,
     .items = R"({"additionalProperties":{"type":"number","minimum":-100,"maximum":100}})"},
    {.name = "stream", .types = kBoolean},
    {.name = "stream_options",
     .types = kObject,
     .items =
         R"({"properties":{"include_usage":{"type":"boolean"},"continuous_usage_stats":{"type":"boolean"}}})"},
    {.name = "return_token_ids", .types = kBoolean},
    {.name = "return_tokens_as_token_ids", .types = kBoolean},
    {.name = "cache_salt", .types = kString},
    {.name = "timings", .types = kBoolean},
    {.name = "speculative.n_max", .types = kInteger, .minimum = 0, .maximum = 1 << 30},  // llama-server's
    {.name = "return_progress", .types = kBoolean},
    {.name = "priority", .types = kInteger, .minimum = -(1LL << 31), .maximum = (1LL << 31) - 1},
    {.name = "timeout_ms", .types = kInteger, .minimum = 1, .maximum = kTimeoutMsMax},
    {.name = "user", .types = kString},
    {.name = "metadata", .types = kObject},

    // Constraints on the answer: server/constraint_fields.h.
    {.name = "response_format",
     .types = kObject,
     .items =
         R"({"required":["type"],"properties":{"type":{"enum":["text","json_object","json_schema","structural_tag"]}}})"},
    {.name = "structured_outputs", .types = kObject},
    {.name = "guided_json", .types = kObject | kString | kBoolean},
    {.name = "guided_regex", .types = kString},
    {.name = "guided_choice", .types = kArray, .items = R"({"items":{"type":"string"},"minItems":1})"},
    {.name = "guided_grammar", .types = kString},
    {.name = "json_schema", .types = kObject | kString | kBoolean},
    {.name = "regex", .types = kString},
    {.name = "ebnf", .types = kString},
    {.name = "grammar", .types = kString},
    {.name = "nvext", .types = kObject},

    {.name = "service_tier", .support = Support::reported},
    {.name = "safety_identifier", .support = Support::reported},
    {.name = "prompt_cache_key", .support = Support::reported},
    {.name = "prompt_cache_retention", .support = Support::reported},
    {.name = "request_id", .support = Support::reported},

    {.name = "store", .support = Support::unsupported, .neutral = "[false]"},
    {.name = "best_of", .support = Support::unsupported, .neutral = "[1]"},
    {.name = "use_beam_search", .support = Support::unsupported, .neutral = "[false]"},
    {.name = "length_penalty", .support = Support::unsupported, .neutral = "[1, 1.0]"},
    {.name = "truncation_side", .support = Support::unsupported, .neutral = R"(["left"])"},
    {.name = "prompt_logprobs", .support = Support::unsupported},
    {.name = "allowed_token_ids", .support = Support::unsupported},
    {.name = "logprob_token_ids", .support = Support::unsupported},
    {.name = "bad_words", .support = Support::unsupported, .neutral = "[[]]"},
    {.name = "spaces_between_special_tokens", .support = Support::unsupported, .neutral = "[true]"},
    {.name = "guided_decoding_backend",
     .support = Support::unsupported,
     .neutral = R"(["auto", "guidance", "llguidance"])"},
    {.name = "guided_whitespace_pattern", .support = Support::unsupported},
    {.name = "prompt_embeds", .support = Support::unsupported},
    {.name = "logits_processors", .support = Support::unsupported, .neutral = "[[]]"},
    {.name = "repetition_detection", .support = Support::unsupported},
    {.name = "kv_transfer_params", .support = Support::unsupported},
    {.name = "vllm_xargs", .support = Support::unsupported, .neutral = "[{}]"},
    {.name = "typical_p", .support = Support::unsupported, .neutral = "[1, 1.0]"},
    {.name = "mirostat", .support = Support::unsupported, .neutral = "[0]"},
    {.name = "lora", .support = Support::unsupported, .neutral = "[[]]"},
});

inline constexpr auto kChatFields = net::join(
    kSamplingFields,
    std::to_array<Field>({
        {.name = "messages", .types = kArray, .required = true, .items = kMessageItems},
        {.name = "max_completion_tokens", .types = kInteger, .minimum = 1},
        {.name = "logprobs", .types = kBoolean},
        {.name = "top_logprobs", .types = kInteger, .minimum = 0, .maximum = limits::kLogprobs},
        {.name = "tools", .types = kArray, .items = R"({"maxItems":256,"items":{"type":"object"}})"},
        {.name = "tool_choice", .types = kString | kObject},
        {.name = "parallel_tool_calls", .types = kBoolean},
        {.name = "chat_template_kwargs", .types = kObject},
        {.name = "add_generation_prompt", .types = kBoolean},
        {.name = "continue_final_message", .types = kBoolean},
        {.name = "reasoning_effort",
         .types = kString,
         .items = R"({"enum":["none","minimal","low","medium","high","xhigh","max",null]})"},
        {.name = "include_reasoning", .types = kBoolean},
        {.name = "thinking_token_budget", .types = kInteger, .minimum = 0},
        {.name = "max_thinking_tokens", .types = kInteger, .minimum = 0},
        {.name = "thinking", .types = kObject},
        {.name = "reasoning",
         .types = kObject,
         .items =
             R"({"properties":{"strategy":{"enum":["none","best_of_n","self_consistency","deepconf",null]},"n":{"type":["integer","null"],"minimum":1}}})"},

        {.name = "echo", .support = Support::unsupported, .neutral = "[false]"},
        {.name = "functions", .support = Support::unsupported, .neutral = "[[]]"},
        {.name = "function_call", .support = Support::unsupported, .neutral = R"(["none"])"},
        {.name = "chat_template", .support = Support::unsupported},
        {.name = "documents", .support = Support::unsupported, .neutral = "[[]]"},
        {.name = "modalities", .support = Support::unsupported, .neutral = R"([["text"]])"},
        {.name = "audio", .support = Support::unsupported},
        {.name = "prediction", .support = Support::unsupported},
        {.name = "web_search_options", .support = Support::unsupported},
        {.name = "verbosity", .support = Support::unsupported, .neutral = R"(["medium"])"},
        {.name = "mm_processor_kwargs", .support = Support::unsupported},
        {.name = "media_io_kwargs", .support = Support::unsupported},
    }));

inline constexpr auto kCompletionFields = net::join(
    kSamplingFields,
    std::to_array<Field>({
        {.name = "prompt", .types = kString | kArray, .required = true, .items = R"({"minItems":1})"},
        {.name = "logprobs", .types = kInteger, .minimum = 0, .maximum = limits::kLogprobs},
        {.name = "echo", .types = kBoolean},
        {.name = "suffix", .types = kString},
    }));

inline constexpr auto kEmbeddingFields = std::to_array<Field>({
    {.name = "model", .types = kString, .required = true},
    {.name = "input",
     .types = kString | kArray,
     .required = true,
     .items =
         R"({"minLength":1,"minItems":1,"maxItems":2048,"anyOf":[{"type":"string"},{"items":{"type":"string","minLength":1}},
       {"items":{"type":"integer","minimum":0}},{"items":{"type":"array","minItems":1,"items":{"type":"integer","minimum":0}}}]})"},
    {.name = "encoding_format", .types = kString, .items = R"({"enum":["float","base64",null]})"},
    {.name = "dimensions", .types = kInteger, .minimum = 1},
    {.name = "truncate_prompt_tokens", .types = kInteger, .minimum = -1, .items = kNotZero},
    {.name = "add_special_tokens", .types = kBoolean},
    {.name = "user", .types = kString},

    {.name = "request_id", .support = Support::reported},
    {.name = "priority", .support = Support::unsupported, .neutral = "[0]"},
    {.name = "truncation_side", .support = Support::unsupported, .neutral = R"(["right"])"},
    {.name = "messages", .support = Support::unsupported},
    {.name = "input_type", .support = Support::unsupported},
    {.name = "embedding_type", .support = Support::unsupported, .neutral = R"(["float"])"},
    {.name = "modality", .support = Support::unsupported, .neutral = R"(["text"])"},
    {.name = "truncate", .support = Support::unsupported, .neutral = R"(["NONE"])"},
    {.name = "embed_dtype", .support = Support::unsupported, .neutral = R"(["float32"])"},
    {.name = "endianness", .support = Support::unsupported, .neutral = R"(["native", "little"])"},
    {.name = "normalize", .support = Support::unsupported, .neutral = "[true]"},
    {.name = "use_activation", .support = Support::unsupported, .neutral = "[true]"},
});

// Anthropic's API. What the conversation consists of is read in messages_request.cpp.
inline constexpr auto kCountTokensFields = std::to_array<Field>({
    {.name = "model", .types = kString, .required = true},
    {.name = "messages",
     .types = kArray,
     .required = true,
     .items =
         R"({"minItems":1,"maxItems":4096,"items":{"type":"object","required":["role","content"],"properties":{"role":{"enum":["user","assistant"]},"content":{"type":["string","array"]}}}})"},
    {.name = "system", .types = kString | kArray, .items = R"({"items":{"type":"object"}})"},
    {.name = "tools", .types = kArray, .items = R"({"maxItems":256,"items":{"type":"object"}})"},
    {.name = "tool_choice",
     .types = kObject,
     .items = R"({"required":["type"],"properties":{"type":{"enum":["auto","any","tool","none"]}}})"},
    {.name = "thinking",
     .types = kObject,
     .items = R"({"required":["type"],"properties":{"type":{"enum":["enabled","disabled","adaptive"]}}})"},
    {.name = "output_config",
     .types = kObject,
     .items = R"({"properties":{"format":{"type":["object","null"]}}})"},
    {.name = "output_format",
     .types = kObject,
     .items = R"({"required":["type","schema"],"properties":{"type":{"const":"json_schema"}}})"},

    {.name = "cache_control", .support = Support::reported},
    {.name = "context_management", .support = Support::unsupported},
    {.name = "mcp_servers", .support = Support::unsupported, .neutral = "[[]]"},
    {.name = "container", .support = Support::unsupported},
    {.name = "fallbacks", .support = Support::unsupported},
});

inline constexpr auto kMessagesFields =
    net::join(kCountTokensFields,
              std::to_array<Field>({
                  {.name = "max_tokens", .types = kInteger, .required = true, .minimum = 1},
                  {.name = "stop_sequences",
                   .types = kArray,
                   .items = R"({"maxItems":16,"items":{"type":"string","minLength":1}})"},
                  {.name = "stream", .types = kBoolean},
                  {.name = "temperature", .types = kNumber, .minimum = 0, .maximum = 1},
                  {.name = "top_p", .types = kNumber, .minimum = 0, .maximum = 1, .above_minimum = true},
                  {.name = "top_k", .types = kInteger, .minimum = -1, .maximum = 1 << 30},
                  {.name = "metadata", .types = kObject},

                  {.name = "service_tier", .support = Support::reported},
                  {.name = "inference_geo", .support = Support::reported},
              }));

// OpenAI's newer API. What the conversation consists of is read in responses_request.cpp.
inline constexpr auto kResponsesFields = std::to_array<Field>({
    {.name = "model", .types = kString, .required = true},
    {.name = "input",
     .types = kString | kArray,
     .required = true,
     .items = R"({"minItems":1,"items":{"type":"object"}})"},
    {.name = "instructions", .types = kString},
    {.name = "max_output_tokens", .types = kInteger, .minimum = 1},
    {.name = "temperature", .types = kNumber, .minimum = 0, .maximum = 2},
    {.name = "top_p", .types = kNumber, .minimum = 0, .maximum = 1, .above_minimum = true},
    {.name = "seed", .types = kInteger},
    {.name = "stream", .types = kBoolean},
    {.name = "tools", .types = kArray, .items = R"({"maxItems":256,"items":{"type":"object"}})"},
    {.name = "tool_choice", .types = kString | kObject},
    {.name = "parallel_tool_calls", .types = kBoolean},
    {.name = "text", .types = kObject},
    {.name = "reasoning", .types = kObject},
    {.name = "include", .types = kArray, .items = R"({"items":{"const":"reasoning.encrypted_content"}})"},
    {.name = "cache_salt", .types = kString},
    {.name = "metadata", .types = kObject},
    {.name = "user", .types = kString},
    // Known, and answered with a 404: nothing is stored here.
    {.name = "previous_response_id", .types = kString},
    {.name = "conversation", .types = kString | kObject},

    {.name = "service_tier", .support = Support::reported},
    {.name = "safety_identifier", .support = Support::reported},
    {.name = "prompt_cache_key", .support = Support::reported},
    {.name = "prompt_cache_retention", .support = Support::reported},
    {.name = "stream_options", .support = Support::reported},

    {.name = "store", .support = Support::unsupported, .neutral = "[false]"},
    {.name = "background", .support = Support::unsupported, .neutral = "[false]"},
    {.name = "truncation", .support = Support::unsupported, .neutral = R"(["disabled"])"},
    {.name = "max_tool_calls", .support = Support::unsupported},
    {.name = "top_logprobs", .support = Support::unsupported, .neutral = "[0]"},
    {.name = "prompt", .support = Support::unsupported},
    {.name = "context_management", .support = Support::unsupported},
});

// What /v1/score and /v1/rerank share: both compare texts.
inline constexpr auto kComparisonFields = std::to_array<Field>({
    {.name = "model", .types = kString, .required = true},
    {.name = "truncate_prompt_tokens", .types = kInteger, .minimum = -1, .items = kNotZero},
    {.name = "use_activation", .types = kBoolean},
    {.name = "user", .types = kString},

    {.name = "request_id", .support = Support::reported},
    {.name = "priority", .support = Support::unsupported, .neutral = "[0]"},
    {.name = "truncation_side", .support = Support::unsupported, .neutral = R"(["right"])"},
    {.name = "add_special_tokens", .support = Support::unsupported, .neutral = "[true]"},
    {.name = "instruction", .support = Support::unsupported},
    {.name = "chat_template", .support = Support::unsupported},
    {.name = "mm_processor_kwargs", .support = Support::unsupported},
});

inline constexpr auto kScoreFields = net::join(
    kComparisonFields,
    std::to_array<Field>({
        {.name = "text_1",
         .types = kString | kArray,
         .required = true,
         .items = R"({"minLength":1,"minItems":1,"maxItems":2048,"items":{"type":"string","minLength":1}})"},
        {.name = "text_2",
         .types = kString | kArray,
         .required = true,
         .items = R"({"minLength":1,"minItems":1,"maxItems":2048,"items":{"type":"string","minLength":1}})"},
        {.name = "queries", .support = Support::unsupported},
        {.name = "documents", .support = Support::unsupported},
        {.name = "items", .support = Support::unsupported},
        {.name = "data_1", .support = Support::unsupported},
        {.name = "data_2", .support = Support::unsupported},
    }));

inline constexpr auto kRerankFields = net::join(
    kComparisonFields,
    std::to_array<Field>({
        {.name = "query", .types = kString, .required = true, .items = R"({"minLength":1})"},
        {.name = "documents",
         .types = kArray,
         .required = true,
         .items =
             R"({"minItems":1,"maxItems":2048,"items":{"type":["string","object"],"minLength":1,"required":["text"],"properties":{"text":{"type":"string","minLength":1}}}})"},
        {.name = "top_n", .types = kInteger, .minimum = 1},
        {.name = "return_documents", .types = kBoolean},
        {.name = "rank_fields", .support = Support::unsupported, .neutral = R"([["text"]])"},
        {.name = "max_tokens_per_doc", .support = Support::unsupported},
        {.name = "max_chunks_per_doc", .support = Support::unsupported},
    }));

inline constexpr auto kTokenizeFields = std::to_array<Field>({
    {.name = "model", .types = kString},
    {.name = "prompt", .types = kString},
    {.name = "messages", .types = kArray, .items = kMessageItems},
    {.name = "add_special_tokens", .types = kBoolean},
    {.name = "return_token_strs", .types = kBoolean},
    {.name = "tools", .types = kArray, .items = R"({"maxItems":256,"items":{"type":"object"}})"},
    {.name = "chat_template_kwargs", .types = kObject},
    {.name = "add_generation_prompt", .types = kBoolean},
    {.name = "continue_final_message", .types = kBoolean},
    {.name = "chat_template", .support = Support::unsupported},
    {.name = "mm_processor_kwargs", .support = Support::unsupported},
});

inline constexpr std::string_view kAdapterName = R"({"minLength":1,"maxLength":128})";

inline constexpr auto kLoadAdapterFields = std::to_array<Field>({
    {.name = "lora_name", .types = kString, .required = true, .items = kAdapterName},
    {.name = "lora_path", .types = kString, .required = true, .items = R"({"minLength":1})"},
    {.name = "load_inplace", .types = kBoolean},
    {.name = "is_3d_lora_weight", .support = Support::unsupported, .neutral = "[false]"},
});

inline constexpr auto kUnloadAdapterFields = std::to_array<Field>({
    {.name = "lora_name", .types = kString, .required = true, .items = kAdapterName},
    {.name = "lora_int_id", .support = Support::reported},
});

// A prefix that is kept on disk: whose requests find it, and of what.
inline constexpr auto kPrefixRestoreFields = std::to_array<Field>({
    {.name = "cache_salt", .types = kString},
    {.name = "key_name", .types = kString},
});
inline constexpr auto kPrefixSaveFields = net::join(
    kPrefixRestoreFields,
    std::to_array<Field>({
        {.name = "prompt", .types = kString},
        {.name = "messages", .types = kArray, .items = kMessageItems},
        {.name = "tools", .types = kArray, .items = R"({"maxItems":256,"items":{"type":"object"}})"},
        {.name = "chat_template_kwargs", .types = kObject},
        {.name = "add_generation_prompt", .types = kBoolean},
    }));

inline constexpr auto kDetokenizeFields = std::to_array<Field>({
    {.name = "model", .types = kString},
    {.name = "tokens",
     .types = kArray,
     .required = true,
     .items = R"({"items":{"type":"integer","minimum":0}})"},
});

}  // namespace neutrino::server
