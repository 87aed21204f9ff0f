// What a request comes to without running it: the prompt that the template makes, its tokens, and every setting. What the request
// itself would be refused for, this is refused for too.
#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/request_json.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

// The prompt as the model would get it: cut and checked against the context.
json::object rendered(std::string text, std::vector<int32_t> tokens, const InferenceRequest& request,
                      const chat::ChatModelInfo& info) {
  chat::SamplingParameters sampling = request.sampling;
  fit_into_context(tokens, request, info, sampling);
  json::object answer{{"model", request.model}, {"prompt", std::move(text)}};
  answer["token_ids"] = ids_json(tokens);
  answer["count"] = tokens.size();
  answer["max_model_len"] = info.context_tokens;
  answer["max_tokens"] = sampling.max_tokens;
  for (auto& [key, value] : request_json(request, sampling)) answer[key] = std::move(value);
  return answer;
}

json::object render_chat(const std::string& body, Services& services, std::vector<std::string>& ignored) {
  const chat::ChatModel& model = services.chat_model;
  ChatRequest chat = parse_chat_request(body, services.view());
  ignored = std::move(chat.ignored);
  std::string text = model.render(chat.conversation);
  settle_answer(model.info(), text, chat);
  compile_constraint(model, chat);
  std::vector<int32_t> tokens = model.tokenize(text, chat.add_special_tokens, true);
  return rendered(std::move(text), std::move(tokens), chat, model.info());
}

json::object render_completion(const std::string& body, Services& services,
                               std::vector<std::string>& ignored) {
  const chat::ChatModel& model = services.chat_model;
  CompletionRequest completion = parse_completion_request(body, services.view());
  ignored = std::move(completion.ignored);
  compile_constraint(model, completion);
  tokenize_prompts(model, completion);
  json::array prompts;
  for (Prompt& prompt : completion.prompts) {
    if (!prompt.is_text || completion.suffix) prompt.text = valid_utf8(model.detokenize(prompt.tokens));
    prompts.push_back(rendered(std::move(prompt.text), std::move(prompt.tokens), completion, model.info()));
    prompts.back().as_object()["echo"] = completion.echo;
  }
  return {{"object", "list"}, {"data", std::move(prompts)}};
}

asio::awaitable<void> answer(Services& services, const Request& request, Response& response,
                             json::object (*make)(const std::string&, Services&, std::vector<std::string>&)) {
  std::string body;
  std::vector<std::string> ignored;
  co_await services.workers.run([&] { body = to_text(make(request.body, services, ignored)); });
  if (!ignored.empty()) response.set_header("X-Ignored-Params", header_text(joined(ignored, ",")));
  response.send(200, std::move(body));
}

}  // namespace

asio::awaitable<void> render_chat(Services& services, const Request& request, Response& response) {
  co_await answer(services, request, response, render_chat);
}

asio::awaitable<void> render_completions(Services& services, const Request& request, Response& response) {
  co_await answer(services, request, response, render_completion);
}

}  // namespace neutrino::server::routes
