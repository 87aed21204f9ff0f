#include "server/score_request.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "net/schema.h"
#include "server/embedding_request.h"
#include "server/nested_keys.h"
#include "server/request_fields.h"

namespace neutrino::server {
namespace {

using net::find;

struct Text {
  std::string text;
  std::string path;  // in the body
};

constexpr auto kKeys = std::to_array<ReadKeys>({{"query", "text"},
                                                {"documents[]", "text"},
                                                {"text_1", "text"},
                                                {"text_1[]", "text"},
                                                {"text_2", "text"},
                                                {"text_2[]", "text"}});

std::string read_document(const json::value& value, const std::string& path) {
  const json::value* text = value.is_object() ? find(value.get_object(), "text") : &value;
  if (!text || !text->is_string())
    throw invalid_field(path + " must be a string or an object with a text", path, "invalid_type");
  if (text->get_string().empty()) throw invalid_field(path + " must not be empty", path);
  return std::string(text->get_string());
}

// A text, or a list of them.
std::vector<Text> read_texts(const json::value& value, const std::string& name) {
  if (!value.is_array()) return {{read_document(value, name), name}};
  const json::array& list = value.get_array();
  if (list.empty() || std::ssize(list) > limits::kEmbeddingInputs)
    throw invalid_field(
        fmt::format("{} must hold 1-{} texts, got {}", name, limits::kEmbeddingInputs, list.size()), name);
  std::vector<Text> texts;
  for (const json::value& item : list) {
    std::string path = fmt::format("{}[{}]", name, texts.size());
    std::string text = read_document(item, path);
    texts.push_back({std::move(text), std::move(path)});
  }
  return texts;
}

class Planner {
 public:
  Planner(const chat::ChatModel& model, const json::object& body, ScoreBody& score)
      : model_(model), score_(score) {
    const auto* truncate = find(body, "truncate_prompt_tokens");
    if (truncate) truncate_ = net::to_integer(*truncate);
    if (truncate_ == 0)
      throw invalid_field("truncate_prompt_tokens must be -1 or at least 1, got 0", "truncate_prompt_tokens");
  }

  // Pairs first[i] with second[i]; a single first text goes with all.
  void plan(const std::vector<Text>& first, const std::vector<Text>& second) {
    if (model_.info().reranker) {
      for (size_t i = 0; i < second.size(); ++i) add_pair(first[first.size() == 1 ? 0 : i], second[i]);
      return;
    }
    for (const Text& text : first) add_text(text);
    for (const Text& text : second) add_text(text);
    for (size_t i = 0; i < second.size(); ++i)
      score_.pairs.emplace_back(first.size() == 1 ? 0 : i, first.size() + i);
  }

 private:
  void add_pair(const Text& first, const Text& second) {
    chat::TextPair pair = model_.tokenize_pair(first.text, second.text);
    const auto suffix = [&] {
      const auto bare = model_.tokenize_pair(first.text, "").tokens,
                 other = model_.tokenize_pair(first.text, "a").tokens;
      return tokens_behind(bare, other);
    };
    cut(pair.tokens, suffix);
    if (!pair.segments.empty()) pair.segments.resize(pair.tokens.size());
    add(std::move(pair.tokens), second.path);
    score_.request.segments.push_back(std::move(pair.segments));
  }

  void add_text(const Text& text) {
    std::vector<int32_t> tokens = model_.tokenize(text.text, true, false);
    cut(tokens, [&] { return find_suffix(model_); });
    add(std::move(tokens), text.path);
  }

  // Keeps the first tokens, and with them the special ones at the end.
  template <typename Suffix>
  void cut(std::vector<int32_t>& tokens, const Suffix& make_suffix) const {
    if (!truncate_) return;
    const int64_t keep = *truncate_ < 0 ? model_.info().context_tokens : *truncate_;
    if (std::ssize(tokens) <= keep) return;
    const std::vector<int32_t> suffix = make_suffix();
    tokens.resize(static_cast<size_t>(keep));
    if (suffix.size() <= tokens.size())
      std::copy(suffix.begin(), suffix.end(), tokens.end() - std::ssize(suffix));
  }

  void add(std::vector<int32_t> tokens, const std::string& path) {
    const int64_t context = model_.info().context_tokens;
    if (tokens.empty()) throw invalid_field(path + " has no tokens", path);
    if (std::ssize(tokens) > context)
      throw invalid_field(
          fmt::format("{} takes {} tokens, but the model's context is {}; truncate_prompt_tokens cuts it",
                      path, tokens.size(), context),
          path, "context_length_exceeded");
    score_.prompt_tokens += std::ssize(tokens);
    score_.request.inputs.push_back(std::move(tokens));
  }

  const chat::ChatModel& model_;
  ScoreBody& score_;
  std::optional<int64_t> truncate_;
};

void read_common(const json::object& body, const ModelView& view, ScoreBody& score) {
  score.model = body.at("model").get_string();
  check_model_name(score.model, view);
  note_unread_keys(body, kKeys, score.ignored);
  if (!view.info.reranker && view.info.embedding_size == 0)
    throw invalid_field(
        fmt::format("model {} generates text; scores need a reranker or an embedding model", score.model),
        "model", "not_a_reranker");
  if (const auto* activation = find(body, "use_activation")) score.activation = activation->get_bool();
  if (!score.activation && !view.info.reranker)
    throw invalid_field("use_activation is for rerankers; the cosine of two vectors has no other form",
                        "use_activation", "unsupported_parameter");
}

// One class: its sigmoid. More: the softmax of the first.
double activated(const std::vector<float>& raw) {
  if (raw.size() == 1) return 1 / (1 + std::exp(-double{raw[0]}));
  const double largest = *std::max_element(raw.begin(), raw.end());
  double sum = 0;
  for (const float value : raw) sum += std::exp(value - largest);
  return std::exp(raw[0] - largest) / sum;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

}  // namespace

ScoreBody parse_score_request(std::string_view body, const ModelView& view, const chat::ChatModel& model) {
  ScoreBody score;
  const json::object object = net::parse_body(body, kScoreFields, score.ignored);
  read_common(object, view, score);
  const std::vector<Text> first = read_texts(object.at("text_1"), "text_1"),
                          second = read_texts(object.at("text_2"), "text_2");
  if (first.size() != 1 && first.size() != second.size())
    throw invalid_field(fmt::format("text_1 must hold one text or as many as text_2 ({}), got {}",
                                    second.size(), first.size()),
                        "text_1");
  Planner(model, object, score).plan(first, second);
  return score;
}

RerankBody parse_rerank_request(std::string_view body, const ModelView& view, const chat::ChatModel& model) {
  RerankBody rerank;
  const json::object object = net::parse_body(body, kRerankFields, rerank.ignored);
  read_common(object, view, rerank);
  const std::vector<Text> query{{read_document(object.at("query"), "query"), "query"}};
  const std::vector<Text> documents = read_texts(object.at("documents"), "documents");
  for (const Text& document : documents) rerank.documents.push_back(document.text);
  const auto* top_n = find(object, "top_n");
  rerank.top_n = std::min(top_n ? net::to_integer(*top_n) : std::ssize(documents), std::ssize(documents));
  if (const auto* wanted = find(object, "return_documents")) rerank.return_documents = wanted->get_bool();
  Planner(model, object, rerank).plan(query, documents);
  return rerank;
}

std::vector<double> scores_of(const ScoreBody& body, const chat::EmbeddingResult& result) {
  std::vector<double> scores;
  if (body.pairs.empty())
    for (const std::vector<float>& raw : result.vectors)
      scores.push_back(body.activation ? activated(raw) : double{raw[0]});
  for (const auto& [first, second] : body.pairs)
    scores.push_back(dot(result.vectors[first], result.vectors[second]));
  return scores;
}

}  // namespace neutrino::server
