// POST /v1/embeddings: texts to vectors, in OpenAI's shape.
#include "server/embedding_request.h"

#include <bit>

#include "server/answer_json.h"
#include "server/embedding_run.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

static_assert(std::endian::native == std::endian::little, "base64 embeddings are little-endian float32");

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
  }
  return text;
}

void append_vector(std::string& text, const std::vector<float>& vector, EmbeddingFormat format) {
  if (format == EmbeddingFormat::base64) {
    text += '"' + base64({reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float)}) + '"';
    return;
  }
  char separator = '[';
  for (const float value : vector)
    fmt::format_to(std::back_inserter(text), "{}{}", std::exchange(separator, ','), value);
  text += ']';
}

std::string answer_text(const EmbeddingBody& body, const chat::EmbeddingResult& result) {
  std::string text = R"({"object":"list","data":[)";
  for (size_t i = 0; i < result.vectors.size(); ++i) {
    fmt::format_to(std::back_inserter(text), R"({}{{"object":"embedding","index":{},"embedding":)",
                   i > 0 ? "," : "", i);
    append_vector(text, result.vectors[i], body.format);
    text += '}';
  }
  const json::object usage{{"prompt_tokens", body.prompt_tokens}, {"total_tokens", body.prompt_tokens}};
  fmt::format_to(std::back_inserter(text), R"(],"model":{},"usage":{}}})", to_text(json::value(body.model)),
                 to_text(usage));
  return text;
}

}  // namespace

asio::awaitable<void> embeddings(Services& services, const Request& request, Response& response) {
  EmbeddingBody body;
  co_await services.workers.run(
      [&] { body = parse_embedding_request(request.body, services.view(), services.chat_model); });
  account_for(response, {body.model, body.ignored, body.inputs.size(), body.prompt_tokens});
  chat::EmbeddingRequest embedding{.id = new_answer_id("embd-"), .inputs = std::move(body.inputs)};
  const auto result = co_await run_embedding(services, request, response, std::move(embedding));
  if (!result) co_return;
  std::string text;
  co_await services.workers.run([&] { text = answer_text(body, *result); });
  response.send(200, std::move(text));
}

}  // namespace neutrino::server::routes
