// POST /v1/responses: OpenAI's newer API in front of the same models, without state on this side.
#include "server/responses_request.h"

#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/responses_format.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {

asio::awaitable<void> responses(Services& services, const Request& request, Response& response) {
  refuse_early(services, request);
  ChatRequest chat;
  json::object echo;
  std::vector<Choice> choices;
  co_await services.workers.run([&] {
    ResponsesBody body = parse_responses_body(request.body);
    chat = parse_chat_request(to_text(body.chat), services.view());
    chat.ignored.insert(chat.ignored.end(), body.ignored.begin(), body.ignored.end());
    echo = std::move(body.echo);
    choices = plan_chat(services.chat_model, chat);
  });
  const ResponsesFormat format(std::move(echo));
  co_await answer_request(services, request, response, chat, std::move(choices), format);
}

}  // namespace neutrino::server::routes
