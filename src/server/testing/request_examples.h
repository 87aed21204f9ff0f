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
    {"/v1/chat/completions", "reasoning_effort", R"("low")"},
    {"/v1/chat/completions", "thinking", R"({"type":"enabled","budget_tokens":5})"},
    {"/v1/chat/completions", "reasoning", R"({"budget_tokens":5})"},
    {"/v1/embeddings", "dimensions", "3"},
    {"", "response_format", R"({"type":"json_object"})"},
    {"", "structured_outputs", R"({"regex":"a"})"},
    {"", "guided_json", R"({"type":"null"})"},
    {"", "guided_choice", R"(["a"])"},
    {"", "guided_grammar", R"("root ::= \"a\"")"},
    {"", "json_schema", R"({"type":"null"})"},
    {"", "ebnf", R"("root ::= \"a\"")"},
    {"", "grammar", R"("root ::= \"a\"")"},
    {"", "nvext", R"({"guided_regex":"a"})"},
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

// Seen only in the contents of a grammar (chat/answer_grammar_test.cpp), of an answer that reasons, or not where the one good
// value is the default.
inline constexpr auto kSeenElsewhere =
    std::to_array<std::string_view>({"parallel_tool_calls", "include_reasoning", "dimensions"});

// Routes that need files beside the body: adapters_test.cpp.
inline constexpr auto kNeedFiles =
    std::to_array<std::string_view>({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"});

// Routes that the scripted replicas answer in full, so that an honoured field must show. Of the others the matrix asks that nothing is a
// 5xx, that what is refused or reported is so by name, and that absurd values and broken bodies are client errors.
inline constexpr auto kAnsweredInFull =
    std::to_array<std::string_view>({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"});

}  // namespace neutrino::server::testing
