#include "server/answer_json.h"
#include "server/completion_request.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

void plan(const chat::ChatModel& model, CompletionRequest& request, std::vector<Choice>& choices) {
  tokenize_prompts(model, request);
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    Prompt& prompt = request.prompts[i];
    if (request.echo && !prompt.is_text) prompt.text = valid_utf8(model.detokenize(prompt.tokens));
    plan_choices(choices, request, i, std::move(prompt.tokens),
                 request.echo ? std::move(prompt.text) : std::string(), model.info());
  }
}

}  // namespace

asio::awaitable<void> completions(Services& services, const Request& request, Response& response) {
  refuse_early(services, request);
  CompletionRequest completion;
  std::vector<Choice> choices;
  co_await services.workers.run([&] {
    completion = parse_completion_request(request.body, services.view());
    compile_constraint(services.chat_model, completion);
    plan(services.chat_model, completion, choices);
  });
  const CompletionFormat format(services.chat_model, completion.echo);
  co_await answer_request(services, request, response, completion, std::move(choices), format);
}

}  // namespace neutrino::server::routes
