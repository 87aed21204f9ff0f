#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {

asio::awaitable<void> chat_completions(Services& services, const Request& request, Response& response) {
  refuse_early(services, request);
  ChatRequest chat;
  std::vector<Choice> choices;
  co_await services.workers.run([&] {
    chat = parse_chat_request(request.body, services.view());
    choices = plan_chat(services.chat_model, chat);
  });
  const ChatFormat format(services.chat_model);
  co_await answer_request(services, request, response, chat, std::move(choices), format);
}

}  // namespace neutrino::server::routes
