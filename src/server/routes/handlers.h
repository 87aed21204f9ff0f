// One handler per file of this folder; server/routes.cpp says which path leads to which.
#pragma once

#include "net/response.h"
#include "server/services.h"

namespace neutrino::server::routes {

using net::Request, net::Response;
namespace asio = boost::asio;

asio::awaitable<void> chat_completions(Services& services, const Request& request, Response& response);
asio::awaitable<void> completions(Services& services, const Request& request, Response& response);
asio::awaitable<void> embeddings(Services& services, const Request& request, Response& response);
asio::awaitable<void> messages(Services& services, const Request& request, Response& response);
asio::awaitable<void> count_tokens(Services& services, const Request& request, Response& response);
asio::awaitable<void> responses(Services& services, const Request& request, Response& response);
asio::awaitable<void> sleep(Services& services, const Request& request, Response& response);
asio::awaitable<void> wake_up(Services& services, const Request& request, Response& response);
asio::awaitable<void> is_sleeping(Services& services, const Request& request, Response& response);
asio::awaitable<void> save_prefix(Services& services, const Request& request, Response& response);
asio::awaitable<void> restore_prefix(Services& services, const Request& request, Response& response);
asio::awaitable<void> list_prefixes(Services& services, const Request& request, Response& response);
asio::awaitable<void> delete_prefix(Services& services, const Request& request, Response& response);
asio::awaitable<void> score(Services& services, const Request& request, Response& response);
asio::awaitable<void> rerank(Services& services, const Request& request, Response& response);
asio::awaitable<void> render_chat(Services& services, const Request& request, Response& response);
asio::awaitable<void> render_completions(Services& services, const Request& request, Response& response);
asio::awaitable<void> not_kept(Services& services, const Request& request, Response& response);
asio::awaitable<void> list_models(Services& services, const Request& request, Response& response);
asio::awaitable<void> get_model(Services& services, const Request& request, Response& response);
asio::awaitable<void> tokenize(Services& services, const Request& request, Response& response);
asio::awaitable<void> detokenize(Services& services, const Request& request, Response& response);
asio::awaitable<void> load_adapter(Services& services, const Request& request, Response& response);
asio::awaitable<void> unload_adapter(Services& services, const Request& request, Response& response);
asio::awaitable<void> live(Services& services, const Request& request, Response& response);
asio::awaitable<void> ready(Services& services, const Request& request, Response& response);
asio::awaitable<void> load(Services& services, const Request& request, Response& response);
asio::awaitable<void> version(Services& services, const Request& request, Response& response);
asio::awaitable<void> metadata(Services& services, const Request& request, Response& response);
asio::awaitable<void> license(Services& services, const Request& request, Response& response);
asio::awaitable<void> manifest(Services& services, const Request& request, Response& response);
asio::awaitable<void> metrics(Services& services, const Request& request, Response& response);
asio::awaitable<void> openapi(Services& services, const Request& request, Response& response);
asio::awaitable<void> cancel_request(Services& services, const Request& request, Response& response);

}  // namespace neutrino::server::routes
