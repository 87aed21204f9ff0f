// One embedding (or scoring of pairs) through the model: submit, wait, account. What its routes share.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <optional>
#include <string>
#include <string_view>

#include "net/response.h"
#include "server/services.h"

namespace neutrino::server {

namespace asio = boost::asio;

// "<prefix>" and 32 random hexadecimal digits: the id of an answer.
std::string new_answer_id(std::string_view prefix);

// Waits for the result; cancelled by `embedding.id`, which is also the answer's. nullopt: the client is gone. Throws what ends
// the request.
asio::awaitable<std::optional<chat::EmbeddingResult>> run_embedding(Services& services,
                                                                    const net::Request& request,
                                                                    net::Response& response,
                                                                    chat::EmbeddingRequest embedding);

// What such an answer says about itself in headers and log.
struct EmbeddingAccount {
  const std::string& model;
  const std::vector<std::string>& ignored;
  size_t texts = 0;
  int64_t prompt_tokens = 0;
};
void account_for(net::Response& response, const EmbeddingAccount& account);

}  // namespace neutrino::server
