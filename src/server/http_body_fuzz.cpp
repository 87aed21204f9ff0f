// Bodies of requests: each becomes the types of its route, or a client's error (never one that would be a 5xx).
#include "base/testing/fuzz.h"
#include "chat/testing/fake_chat_model.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/embedding_request.h"

using namespace neutrino;
using namespace neutrino::server;

namespace {

struct Model {
  chat::testing::FakeChatModel model{[] {
    chat::ChatModelInfo info = chat::testing::FakeChatModel::default_info();
    info.embedding_size = 4;
    return info;
  }()};
  std::vector<std::string> names{"fake"};
  ModelView view() const { return {model.info(), names}; }
};

void parse(const Model& model, unsigned route, std::string_view body) {
  switch (route % 3) {
    case 0: {
      const ChatRequest request = parse_chat_request(body, model.view());
      check(!request.conversation.messages.empty() && request.n >= 1, "a chat request that cannot run");
      break;
    }
    case 1: {
      const CompletionRequest request = parse_completion_request(body, model.view());
      check(!request.prompts.empty() && request.n >= 1, "a completion that cannot run");
      break;
    }
    default:
      for (const auto& input : parse_embedding_request(body, model.view(), model.model).inputs)
        check(!input.empty(), "an empty input");
  }
}

}  // namespace

// The first byte chooses the route.
NEUTRINO_FUZZ(http_body) {
  static const Model model;
  const unsigned route = take_byte(data);
  try {
    parse(model, route, as_text(data));
  } catch (const Error& error) {
    check(error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::not_found,
          error.message());
  }
}
