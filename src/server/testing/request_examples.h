// What to ask with, where a field's type alone does not say: for the matrix of all fields of all routes.
//
// A field of a simple type needs no entry: the matrix draws values from its type and range. A field whose drawn values show no effect
// fails the matrix by name until it has one here.
#pragma once

#include <array>
#include <string_view>

namespace neutrino::server::testing {

struct RequestExample {
  std::string_view path;        // what the route's path begins with; the first entry that fits counts
  std::string_view name;        // of the field
  std::string_view value = {};  // JSON that is honoured; empty: drawn from the type
  std::string_view with = {};   // JSON object: other fields that the body then needs
  std::string_view other = {};  // of a required field: another value, whose answer must be another one
  int status = 200;       // of the answer to `value`; else the field is honoured by an error that names it
  bool reported = false;  // `value` is accepted, and named in X-Ignored-Params
};

// "$FOLDER" stands for a folder with the adapters "first" and "second".
// clang-format off
inline constexpr auto kRequestExamples = std::to_array<RequestExample>({
    {"/tokenize", "model", R"("fake")", R"({"prompt":"Hi"})"},

    // ---- what every route calls the same
    {"", "model", R"("fake")", "", R"("tuned")"},
    {"/v1/completions", "prompt", R"("Hi")", "", R"("Ho")"},
    {"", "tokens", "[72,105]", "", "[72]"},
    {"", "timeout_ms", "60000"},  // what is drawn would end some requests
    {"", "stop_sequences", R"(["x"])"},
    {"", "stop", R"(["x"])"},
    {"", "stop_token_ids", "[5]"},
    {"", "logit_bias", R"({"5":10})"},
    {"", "stream_options", R"({"include_usage":true})", R"({"stream":true})"},
    {"", "encoding_format", R"("base64")"},
    {"", "return_progress", "", R"({"stream":true})"},
    {"", "top_logprobs", "", R"({"logprobs":true})"},
    {"", "response_format", R"({"type":"json_object"})"},
    {"", "structured_outputs", R"({"regex":"a"})"},
    {"", "guided_json", R"({"type":"null"})"},
    {"", "guided_choice", R"(["a"])"},
    {"", "guided_grammar", R"("root ::= \"a\"")"},
    {"", "json_schema", R"({"type":"null"})"},
    {"", "ebnf", R"("root ::= \"a\"")"},
    {"", "grammar", R"("root ::= \"a\"")"},
    {"", "nvext", R"({"guided_regex":"a"})"},

    // ---- completions and their rendering
    {"/v1/completions", "return_tokens_as_token_ids", "", R"({"logprobs":1})"},

    // ---- chat completions and their rendering
    {"/v1/chat/completions", "messages", R"([{"role":"user","content":"Hi"}])", "", R"([{"role":"user","content":"Ho"}])"},
    {"/v1/chat/completions", "return_tokens_as_token_ids", "", R"({"logprobs":true})"},
    {"/v1/chat/completions", "tools", R"([{"type":"function","function":{"name":"f"}}])", R"({"tool_choice":"none"})"},
    {"/v1/chat/completions", "tool_choice", R"("none")", R"({"tools":[{"type":"function","function":{"name":"f"}}]})"},
    {"/v1/chat/completions", "parallel_tool_calls", "false", R"({"tools":[{"type":"function","function":{"name":"f"}}]})"},
    {"/v1/chat/completions", "chat_template_kwargs", R"({"enable_thinking":false})"},
    {"/v1/chat/completions", "reasoning_effort", R"("low")"},
    {"/v1/chat/completions", "thinking", R"({"type":"enabled","budget_tokens":5})"},
    {"/v1/chat/completions", "reasoning", R"({"budget_tokens":5})"},
    {"/v1/chat/completions", "continue_final_message", "",
     R"({"messages":[{"role":"assistant","content":"Hi"}],"add_generation_prompt":false})"},

    // ---- Anthropic's API
    {"/v1/messages", "messages", R"([{"role":"user","content":"Hi"}])", "", R"([{"role":"user","content":"H"}])"},
    {"/v1/messages", "max_tokens", "32", "", "2"},
    {"/v1/messages", "system", R"("be brief")"},
    {"/v1/messages", "tools", R"([{"name":"f","input_schema":{"type":"object"}}])"},
    {"/v1/messages", "tool_choice", R"({"type":"any"})", R"({"tools":[{"name":"f","input_schema":{"type":"object"}}]})"},
    {"/v1/messages", "thinking", R"({"type":"enabled","budget_tokens":5})"},
    {"/v1/messages", "output_config", R"({"effort":"low"})"},
    {"/v1/messages", "output_format", R"({"type":"json_schema","schema":{"type":"object"}})"},

    // ---- OpenAI's newer API
    {"/v1/responses", "input", R"("Hi")", "", R"("Ho")"},
    {"/v1/responses", "tools", R"([{"type":"function","name":"f","parameters":{"type":"object"}}])"},
    {"/v1/responses", "tool_choice", R"("none")", R"({"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]})"},
    {"/v1/responses", "parallel_tool_calls", "false", R"({"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]})"},
    {"/v1/responses", "text", R"({"format":{"type":"json_object"}})"},
    {"/v1/responses", "reasoning", R"({"effort":"low"})"},
    {"/v1/responses", "include", R"(["reasoning.encrypted_content"])", "", "", 200, true},
    {"/v1/responses", "metadata", R"({"a":"b"})"},
    {"/v1/responses", "previous_response_id", R"("resp_1")", "", "", 404},
    {"/v1/responses", "conversation", R"("conv_1")", "", "", 404},

    // ---- vectors and scores
    {"/v1/embeddings", "input", R"("Hi")", "", R"("Hello")"},
    {"/v1/embeddings", "dimensions", "3"},
    {"", "text_1", R"("a")", "", R"("aa")"},
    {"", "text_2", R"(["b","c"])", "", R"(["bb","c"])"},
    {"", "query", R"("a")", "", R"("aa")"},
    {"", "documents", R"(["b","ccc"])", "", R"(["b"])"},

    // ---- an operator's calls
    {"/v1/load_lora_adapter", "lora_name", R"("new")", "", R"("newer")"},
    {"/v1/load_lora_adapter", "lora_path", R"("$FOLDER/first")", "", R"("$FOLDER/second")"},
    {"/v1/load_lora_adapter", "load_inplace", "true", R"({"lora_name":"tuned"})"},
    {"/v1/unload_lora_adapter", "lora_name", R"("tuned")", "", R"("spare")"},
    {"/v1/prefixes", "prompt", R"("Hi")"},
    {"/v1/prefixes", "cache_salt", R"("mine")", R"({"prompt":"Hi"})"},
    {"/v1/prefixes", "key_name", R"("theirs")", R"({"prompt":"Hi"})"},

    // ---- where a body has either messages or a text (/tokenize, kept prefixes)
    {"", "prompt", R"("Hi")"},
    {"", "messages", R"([{"role":"user","content":"Hi"}])"},
    {"", "tools", R"([{"type":"function","function":{"name":"f"}}])", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"", "chat_template_kwargs", R"({"enable_thinking":false})", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"", "add_generation_prompt", "false", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"", "continue_final_message", "", R"({"messages":[{"role":"assistant","content":"Hi"}],"add_generation_prompt":false})"},
    {"/tokenize", "add_special_tokens", "", R"({"prompt":"Hi"})"},
    {"/tokenize", "return_token_strs", "", R"({"prompt":"Hi"})"},
});
// clang-format on

// What is honoured without an effect that could show. An entry that is not needed any more fails the matrix.
struct NoEffect {
  std::string_view path;  // what the route's path begins with
  std::string_view name;  // of the field
};
inline constexpr auto kWithoutEffect = std::to_array<NoEffect>({
    // Who asks, and for whom: by OpenAI's contract nothing depends on it.
    {"", "user"},
    {"", "metadata"},
    // The one size that is accepted is the one that the vectors have anyway.
    {"/v1/embeddings", "dimensions"},
    // A name that is not served is refused; the names that are share one tokenizer and one template.
    {"/tokenize", "model"},
    {"/detokenize", "model"},
    {"/v1/messages/count_tokens", "model"},
});

}  // namespace neutrino::server::testing
