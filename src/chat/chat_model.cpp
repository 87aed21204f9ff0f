#include "chat/chat_model.h"

namespace neutrino::chat {

std::unique_ptr<Embedding> ChatModel::embed(EmbeddingRequest) {
  throw make_error(ErrorCode::invalid_argument, "model {} generates text and makes no embeddings",
                   info().name)
      .with_reason("not_an_embedding_model")
      .with_param("model");
}

}  // namespace neutrino::chat
