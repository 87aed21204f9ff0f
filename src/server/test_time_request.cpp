// The `reasoning` object of a request as types.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "net/schema.h"
#include "server/inference_request.h"
#include "server/test_time.h"

namespace neutrino::server {
namespace {

using chat::ExtractorKind, chat::Strategy;

std::string path_of(std::string_view object, std::string_view key) {
  return fmt::format("{}.{:.40}", object, key);
}

// A key's value of one kind, or a refusal that names it.
const json::object* object_at(const json::object& object, std::string_view path, std::string_view key) {
  const json::value* value = net::find(object, key);
  if (value && !value->is_object())
    throw invalid_field(path_of(path, key) + " must be of type object", path_of(path, key), "invalid_type");
  return value ? &value->get_object() : nullptr;
}

std::optional<std::string_view> text_at(const json::object& object, std::string_view path,
                                        std::string_view key) {
  const json::value* value = net::find(object, key);
  if (value && !value->is_string())
    throw invalid_field(path_of(path, key) + " must be of type string", path_of(path, key), "invalid_type");
  return value ? std::optional(std::string_view(value->get_string())) : std::nullopt;
}

std::optional<double> number_at(const json::object& object, std::string_view path, std::string_view key,
                                double minimum, double maximum) {
  const json::value* value = net::find(object, key);
  if (!value) return std::nullopt;
  const double number = value->is_number() ? value->to_number<double>() : minimum - 1;
  if (!(number >= minimum && number <= maximum))
    throw invalid_field(fmt::format("{} must be a number of {} to {}", path_of(path, key), minimum, maximum),
                        path_of(path, key));
  return number;
}

std::optional<int64_t> integer_at(const json::object& object, std::string_view path, std::string_view key,
                                  int64_t minimum, int64_t maximum) {
  const auto number =
      number_at(object, path, key, static_cast<double>(minimum), static_cast<double>(maximum));
  if (number && *number != static_cast<double>(static_cast<int64_t>(*number)))
    throw invalid_field(path_of(path, key) + " must be an integer", path_of(path, key), "invalid_type");
  return number ? std::optional(static_cast<int64_t>(*number)) : std::nullopt;
}

// Keys that mean nothing here would be a constraint that is dropped.
void check_keys(const json::object& object, std::string_view path,
                std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object)
    if (std::ranges::find(known, std::string_view(key)) == known.end())
      throw invalid_field(path_of(path, key) + " is not supported by this server", path_of(path, key),
                          "unsupported_parameter");
}

template <typename T, size_t N>
T one_of(std::string_view value, std::string_view path,
         const std::array<std::pair<std::string_view, T>, N>& names) {
  std::string list;
  for (const auto& [name, meaning] : names) {
    if (name == value) return meaning;
    list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", name);
  }
  throw invalid_field(fmt::format("{} must be one of {}, got \"{:.40}\"", path, list, value),
                      std::string(path));
}

// What a pattern or path says about itself, with the place where it stood.
template <typename F>
auto at_path(const std::string& path, F make) {
  try {
    return make();
  } catch (const Error& error) {
    throw invalid_field(fmt::format("{}: {}", path, error.message()),
                        error.param().empty() ? path : error.param(),
                        error.reason().empty() ? "invalid_value" : error.reason());
  }
}

std::string_view required_text(const json::object& object, std::string_view path, std::string_view key) {
  const auto text = text_at(object, path, key);
  if (!text)
    throw invalid_field(path_of(path, key) + " is required", path_of(path, key),
                        "missing_required_parameter");
  return *text;
}

chat::AnswerExtractor read_extractor(const json::value& value) {
  static constexpr std::string_view kPath = "reasoning.answer_extractor";
  static constexpr auto kNames =
      std::to_array<std::pair<std::string_view, ExtractorKind>>({{"whole", ExtractorKind::whole},
                                                                 {"last_line", ExtractorKind::last_line},
                                                                 {"boxed", ExtractorKind::boxed},
                                                                 {"regex", ExtractorKind::regex},
                                                                 {"json_path", ExtractorKind::json_path}});
  json::object named;
  if (value.is_string()) named["type"] = value;
  const json::object& object = value.is_object() ? value.get_object() : named;
  if (!value.is_object() && !value.is_string())
    throw invalid_field(fmt::format("{} must be a string or an object", kPath), std::string(kPath),
                        "invalid_type");
  check_keys(object, kPath, {"type", "pattern"});
  const auto kind = one_of(required_text(object, kPath, "type"), path_of(kPath, "type"), kNames);
  const bool patterned = kind == ExtractorKind::regex || kind == ExtractorKind::json_path;
  const std::string_view pattern = patterned ? required_text(object, kPath, "pattern") : std::string_view();
  return at_path(path_of(kPath, "pattern"), [&] { return chat::AnswerExtractor(kind, pattern); });
}

chat::AnswerCheck read_check(const json::object& object) {
  static constexpr std::string_view kPath = "reasoning.check";
  enum class Kind { regex, json_path, schema };
  static constexpr auto kNames = std::to_array<std::pair<std::string_view, Kind>>(
      {{"regex", Kind::regex}, {"json_path", Kind::json_path}, {"schema", Kind::schema}});
  check_keys(object, kPath, {"type", "pattern", "path", "equals", "schema"});
  switch (one_of(required_text(object, kPath, "type"), path_of(kPath, "type"), kNames)) {
    case Kind::regex: {
      const std::string_view pattern = required_text(object, kPath, "pattern");
      return at_path(path_of(kPath, "pattern"), [&] { return chat::AnswerCheck::of_pattern(pattern); });
    }
    case Kind::json_path: {
      const std::string_view path = required_text(object, kPath, "path");
      const json::value* equals = object.if_contains("equals");
      return at_path(path_of(kPath, "path"), [&] {
        return chat::AnswerCheck::of_path(path, equals ? std::optional(*equals) : std::nullopt);
      });
    }
    case Kind::schema: break;
  }
  const json::value* schema = object.if_contains("schema");
  if (!schema)
    throw invalid_field("reasoning.check.schema is required", "reasoning.check.schema",
                        "missing_required_parameter");
  return at_path("reasoning.check.schema",
                 [&] { return chat::AnswerCheck::of_schema(*schema, "reasoning.check.schema"); });
}

void read_stop(const json::object& object, TestTime& test_time) {
  static constexpr std::string_view kPath = "reasoning.stop";
  check_keys(object, kPath, {"vote_share", "max_total_tokens", "deadline_ms"});
  if (const auto share = number_at(object, kPath, "vote_share", 0.5, 1)) {
    if (test_time.rule.strategy == Strategy::best_of_n)
      throw invalid_field("reasoning.stop.vote_share needs a strategy that votes",
                          "reasoning.stop.vote_share");
    test_time.rule.vote_share = *share;
  }
  test_time.total_tokens_max = integer_at(object, kPath, "max_total_tokens", 1, int64_t{1} << 40);
  if (const auto deadline = integer_at(object, kPath, "deadline_ms", 1, 86'400'000))
    test_time.deadline = std::chrono::milliseconds(*deadline);
}

void read_confidence(const json::object* object, TestTime& test_time) {
  static constexpr std::string_view kPath = "reasoning.confidence";
  const bool wanted = test_time.rule.strategy == Strategy::deep_conf;
  if (object && !wanted)
    throw invalid_field("reasoning.confidence needs the strategy deepconf", std::string(kPath));
  static const json::object kDefaults;
  const json::object& given = object ? *object : kDefaults;
  check_keys(given, kPath, {"window", "warm_up", "keep_percent"});
  if (!wanted) return;
  test_time.window = integer_at(given, kPath, "window", 1, 1 << 20).value_or(128);
  test_time.warm_up = integer_at(given, kPath, "warm_up", 1, test_time.n).value_or((test_time.n + 1) / 2);
  test_time.keep_percent = number_at(given, kPath, "keep_percent", 1, 100).value_or(90);
}

// A scorer that the strategy does not have would be dropped.
void check_scorer(std::optional<std::string_view> scorer, const TestTime& test_time) {
  const std::string_view fits = test_time.rule.strategy != Strategy::best_of_n ? "vote"
                                : test_time.check                              ? "check"
                                                                               : "logprob";
  if (scorer && *scorer != fits)
    throw invalid_field(
        fmt::format("reasoning.scorer must be \"{}\" with this strategy and these fields, got \"{:.40}\"",
                    fits, *scorer),
        "reasoning.scorer");
}

}  // namespace

std::optional<TestTime> read_test_time(const json::object& reasoning) {
  static constexpr std::string_view kPath = "reasoning";
  static constexpr auto kStrategies = std::to_array<std::pair<std::string_view, std::optional<Strategy>>>(
      {{"none", std::nullopt},
       {"best_of_n", Strategy::best_of_n},
       {"self_consistency", Strategy::majority_vote},
       {"deepconf", Strategy::deep_conf}});
  check_keys(reasoning, kPath,
             {"effort", "budget", "budget_tokens", "strategy", "n", "scorer", "check", "answer_extractor",
              "stop", "confidence"});
  const auto name = text_at(reasoning, kPath, "strategy");
  const auto strategy = name ? one_of(*name, "reasoning.strategy", kStrategies) : std::nullopt;
  if (!strategy) {
    for (const char* key : {"n", "scorer", "check", "answer_extractor", "stop", "confidence"})
      if (net::find(reasoning, key))
        throw invalid_field(path_of(kPath, key) + " needs a reasoning.strategy", path_of(kPath, key));
    return std::nullopt;
  }
  TestTime test_time;
  test_time.rule.strategy = *strategy;
  test_time.n = integer_at(reasoning, kPath, "n", 1, limits::kCandidates).value_or(limits::kChoices);
  if (const json::value* extractor = net::find(reasoning, "answer_extractor"))
    test_time.extractor = read_extractor(*extractor);
  if (const json::object* check = object_at(reasoning, kPath, "check")) {
    if (*strategy != Strategy::best_of_n)
      throw invalid_field("reasoning.check needs the strategy best_of_n", "reasoning.check");
    test_time.check = read_check(*check);
    test_time.rule.has_check = true;
  }
  check_scorer(text_at(reasoning, kPath, "scorer"), test_time);
  if (const json::object* stop = object_at(reasoning, kPath, "stop")) read_stop(*stop, test_time);
  read_confidence(object_at(reasoning, kPath, "confidence"), test_time);
  return test_time;
}

}  // namespace neutrino::server
