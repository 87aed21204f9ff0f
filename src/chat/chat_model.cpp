#include "chat/chat_model.h"

#include "text/constraints.h"

namespace neutrino::chat {

std::shared_ptr<const text::Grammar> ChatModel::compile_grammar(const text::GrammarSpec& spec) const {
  throw make_error(ErrorCode::invalid_argument, "model {} takes no constraints on its answers", info().name)
      .with_reason("unsupported_parameter")
      .with_param(spec.param);
}

std::unique_ptr<Embedding> ChatModel::embed(EmbeddingRequest) {
  throw make_error(ErrorCode::invalid_argument, "model {} generates text and makes no embeddings",
                   info().name)
      .with_reason("not_an_embedding_model")
      .with_param("model");
}

TextPair ChatModel::tokenize_pair(std::string_view, std::string_view) const {
  throw make_error(ErrorCode::invalid_argument, "model {} is no reranker", info().name)
      .with_reason("not_a_reranker")
      .with_param("model");
}

AdapterPtr ChatModel::load_adapter(const std::string&, const std::filesystem::path&, IfLoaded) {
  throw Error(ErrorCode::invalid_argument, "this model cannot be served with adapters")
      .with_reason("adapter_unsupported");
}

void ChatModel::unload_adapter(std::string_view adapter_name) {
  throw make_error(ErrorCode::not_found, "there is no adapter \"{:.100}\"", adapter_name)
      .with_reason("model_not_found")
      .with_param("lora_name");
}

}  // namespace neutrino::chat
