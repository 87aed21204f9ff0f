// Bodies of requests: each becomes the types of its route, or a client's error (never one that would be a 5xx).
#include "base/testing/fuzz.h"
#include "chat/testing/fake_chat_model.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/embedding_request.h"
#include "server/messages_request.h"
#include "server/responses_request.h"
#include "server/score_request.h"

using namespace neutrino;
using namespace neutrino::server;

namespace {

struct Model {
  chat::testing::FakeChatModel model;
  std::vector<std::string> names{"fake"};
  explicit Model(bool reranker)
      : model([&] {
          chat::ChatModelInfo info = chat::testing::FakeChatModel::default_info();
          info.embedding_size = reranker ? 1 : 4;
          info.reranker = reranker;
          return info;
        }()) {}
  ModelView view() const { return {model.info(), names}; }
};

void parse_chat(const Model& model, std::string_view body) {
  const ChatRequest request = parse_chat_request(body, model.view());
  check(!request.conversation.messages.empty() && request.n >= 1, "a chat request that cannot run");
}

void parse_completion(const Model& model, std::string_view body) {
  const CompletionRequest request = parse_completion_request(body, model.view());
  check(!request.prompts.empty() && request.n >= 1, "a completion that cannot run");
}

void parse_embedding(const Model& model, std::string_view body) {
  for (const auto& input : parse_embedding_request(body, model.view(), model.model).inputs)
    check(!input.empty(), "an empty input");
}

void parse_messages(const Model& model, std::string_view body, MessagesUse use) {
  parse_chat(model, to_text(parse_messages_body(body, use).chat));
}

void parse_rerank(const Model& model, std::string_view body) {
  const RerankBody rerank = parse_rerank_request(body, model.view(), model.model);
  check(rerank.top_n <= std::ssize(rerank.documents), "more documents than there are");
}

void parse(unsigned route, std::string_view body) {
  static const Model model(false), reranker(true);
  switch (route % 8) {
    case 0: return parse_chat(model, body);
    case 1: return parse_completion(model, body);
    case 2: return parse_embedding(model, body);
    case 3: return parse_messages(model, body, MessagesUse::answer);
    case 4: return parse_messages(model, body, MessagesUse::count);
    case 5: return parse_chat(model, to_text(parse_responses_body(body).chat));
    case 6: return parse_rerank(reranker, body);
    default:
      parse_score_request(body, (route & 8 ? reranker : model).view(), (route & 8 ? reranker : model).model);
  }
}

}  // namespace

// The first byte chooses the route.
NEUTRINO_FUZZ(http_body) {
  const unsigned route = take_byte(data);
  try {
    parse(route, as_text(data));
  } catch (const Error& error) {
    check(error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::not_found,
          error.message());
  }
}
