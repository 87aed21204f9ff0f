// What to ask with, where a field's type alone does not say: for the matrix of all fields of all routes.
//
// A field of a simple type needs no entry: the matrix draws values from its type and range.
#pragma once

#include <array>
#include <string_view>

namespace neutrino::server::testing {

struct RequestExample {
  std::string_view path;        // of the route; empty: of any
  std::string_view name;        // of the field
  std::string_view value = {};  // JSON that is honoured; empty: drawn from the type
  std::string_view with = {};   // JSON object: other fields that the body then needs
};

// clang-format off
inline constexpr auto kRequestExamples = std::to_array<RequestExample>({
    {"", "model", R"("fake")"},
    {"", "messages", R"([{"role":"user","content":"Hi"}])"},
    {"", "prompt", R"("Hi")"},
    {"", "input", R"("Hi")"},
    {"", "tokens", "[72,105]"},
    {"/v1/messages", "max_tokens", "32"},
    {"", "system", R"("be brief")"},
    {"", "stop_sequences", R"(["x"])"},
    {"", "text_1", R"("a")"},
    {"", "text_2", R"(["b","c"])"},
    {"", "query", R"("a")"},
    {"", "documents", R"(["b","c"])"},
    {"", "lora_name", R"("an-adapter")"},
    {"", "lora_path", R"("/adapters/a")"},
    {"", "stop", R"(["x"])"},
    {"", "stop_token_ids", "[5]"},
    {"", "logit_bias", R"({"5":10})"},
    {"", "stream_options", R"({"include_usage":true})", R"({"stream":true})"},
    {"", "encoding_format", R"("base64")"},
    {"", "return_progress", "", R"({"stream":true})"},
    {"", "speculative.n_max"},
    {"", "top_logprobs", "", R"({"logprobs":true})"},
    {"/v1/chat/completions", "return_tokens_as_token_ids", "", R"({"logprobs":true})"},
    {"/v1/completions", "return_tokens_as_token_ids", "", R"({"logprobs":1})"},
    {"/v1/chat/completions", "tools", R"([{"type":"function","function":{"name":"f"}}])", R"({"tool_choice":"none"})"},
    {"/v1/chat/completions", "tool_choice", R"("none")", R"({"tools":[{"type":"function","function":{"name":"f"}}]})"},
    {"/v1/chat/completions", "chat_template_kwargs", R"({"enable_thinking":false})"},
    {"", "continue_final_message", "", R"({"messages":[{"role":"assistant","content":"Hi"}],"add_generation_prompt":false})"},
    {"/tokenize", "add_special_tokens", "", R"({"prompt":"Hi"})"},
    {"/tokenize", "return_token_strs", "", R"({"prompt":"Hi"})"},
    {"/tokenize", "add_generation_prompt", "", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"/tokenize", "model", R"("fake")", R"({"prompt":"Hi"})"},
    {"/tokenize", "tools", R"([{"type":"function","function":{"name":"f"}}])", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"/tokenize", "chat_template_kwargs", R"({"enable_thinking":false})", R"({"messages":[{"role":"user","content":"Hi"}]})"},
});
// clang-format on

// Accepted by contract without an effect on the answer: they say who asks, or for whom.
inline constexpr auto kWithoutEffect = std::to_array<std::string_view>({"user", "metadata"});

}  // namespace neutrino::server::testing
