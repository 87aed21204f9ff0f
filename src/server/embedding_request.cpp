#include "server/embedding_request.h"

#include <algorithm>

#include "base/limits.h"
#include "net/schema.h"
#include "server/request_fields.h"

namespace neutrino::server {
namespace {

using net::find;

struct Reader {
  const chat::ChatModel& model;
  bool add_special = true;
  std::optional<int64_t> truncate;  // tokens to keep
  std::vector<int32_t> suffix;      // what the tokenizer puts behind every text ("[SEP]")

  void read_text(std::string_view text, EmbeddingBody& request) const;
  void read_ids(const json::array& ids, const std::string& path, EmbeddingBody& request) const;
  void add(std::vector<int32_t> tokens, bool has_suffix, EmbeddingBody& request) const;
};

void Reader::read_text(std::string_view text, EmbeddingBody& request) const {
  if (text.empty()) throw invalid_field("input must not hold an empty text", "input");
  add(model.tokenize(text, add_special, false), add_special, request);
}

void Reader::read_ids(const json::array& ids, const std::string& path, EmbeddingBody& request) const {
  if (ids.empty()) throw invalid_field(path + " must not be an empty list", path);
  add(read_tokens(ids, model.info(), path), false, request);
}

// The first tokens are kept, and with a text the special tokens at its end.
void Reader::add(std::vector<int32_t> tokens, bool has_suffix, EmbeddingBody& request) const {
  const int64_t context = model.info().context_tokens;
  const int64_t keep = truncate ? (*truncate < 0 ? context : *truncate) : std::ssize(tokens);
  if (std::ssize(tokens) > keep) {
    tokens.resize(static_cast<size_t>(keep));
    if (has_suffix && suffix.size() <= tokens.size())
      std::copy(suffix.begin(), suffix.end(), tokens.end() - std::ssize(suffix));
  }
  if (std::ssize(tokens) > context)
    throw invalid_field(
        fmt::format("input[{}] has {} tokens, but the model's context is {}; truncate_prompt_tokens cuts it",
                    request.inputs.size(), tokens.size(), context),
        "input", "context_length_exceeded");
  request.prompt_tokens += std::ssize(tokens);
  request.inputs.push_back(std::move(tokens));
}

// A text, a list of texts, a list of token ids, or a list of such lists.
void read_inputs(const json::value& value, const Reader& reader, EmbeddingBody& request) {
  if (value.is_string()) return reader.read_text(value.get_string(), request);
  const json::array& list = value.get_array();
  if (list.empty()) throw invalid_field("input must not be an empty list", "input");
  if (list[0].is_number()) return reader.read_ids(list, "input", request);
  if (std::ssize(list) > limits::kEmbeddingInputs)
    throw invalid_field(
        fmt::format("input must hold at most {} texts, got {}", limits::kEmbeddingInputs, list.size()),
        "input");
  for (const json::value& item : list) {
    const std::string path = fmt::format("input[{}]", request.inputs.size());
    if (item.is_string())
      reader.read_text(item.get_string(), request);
    else if (item.is_array())
      reader.read_ids(item.get_array(), path, request);
    else
      throw invalid_field(path + " must be a string or a list of token ids", path, "invalid_type");
  }
}

EmbeddingFormat read_format(const json::object& body) {
  const auto* format = find(body, "encoding_format");
  if (!format || format->get_string() == "float") return EmbeddingFormat::floats;
  if (format->get_string() == "base64") return EmbeddingFormat::base64;
  throw invalid_field(fmt::format("encoding_format must be \"float\" or \"base64\", got \"{:.40}\"",
                                  std::string_view(format->get_string())),
                      "encoding_format");
}

// Only models trained for it (Matryoshka) keep their meaning when cut, and none that we know says so in its file.
void check_dimensions(const json::object& body, const chat::ChatModelInfo& info) {
  const auto* dimensions = find(body, "dimensions");
  if (!dimensions || net::to_integer(*dimensions) == info.embedding_size) return;
  throw invalid_field(
      fmt::format("dimensions must be {} for model {}, whose vectors cannot be shortened, got {}",
                  info.embedding_size, info.name, net::to_integer(*dimensions)),
      "dimensions", "unsupported_parameter");
}

}  // namespace

std::vector<int32_t> tokens_behind(const std::vector<int32_t>& bare, const std::vector<int32_t>& other) {
  const auto [end, ignored] = std::mismatch(bare.begin(), bare.end(), other.begin(), other.end());
  return {end, bare.end()};
}

// The tokens of "" without those in front, which the tokens of "" and of any text share.
std::vector<int32_t> find_suffix(const chat::ChatModel& model) {
  return tokens_behind(model.tokenize("", true, false), model.tokenize("a", true, false));
}

EmbeddingBody parse_embedding_request(std::string_view body, const ModelView& view,
                                      const chat::ChatModel& model) {
  EmbeddingBody request;
  const json::object object = net::parse_body(body, kEmbeddingFields, request.ignored);
  request.model = object.at("model").get_string();
  check_model_name(request.model, view);
  if (view.info.embedding_size == 0)
    throw invalid_field(fmt::format("model {} makes no embeddings{}", request.model,
                                    view.info.reranker ? "; it is a reranker: use /v1/rerank" : ""),
                        "model", "not_an_embedding_model");
  request.format = read_format(object);
  check_dimensions(object, view.info);
  Reader reader{.model = model};
  if (const auto* special = find(object, "add_special_tokens")) reader.add_special = special->get_bool();
  if (const auto* truncate = find(object, "truncate_prompt_tokens")) {
    reader.truncate = net::to_integer(*truncate);
    if (*reader.truncate == 0)
      throw invalid_field("truncate_prompt_tokens must be -1 or at least 1, got 0", "truncate_prompt_tokens");
    reader.suffix = find_suffix(model);
  }
  read_inputs(object.at("input"), reader, request);
  return request;
}

}  // namespace neutrino::server
