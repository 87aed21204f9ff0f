// How much of JSON Schema is honoured, on a file of schemas with valid and invalid instances.
//
//   schema_conformance FILE [--failures] [--limit N]
//
// FILE: one JSON object a line, {"name", "schema", "tests": [{"valid", "data"}]}. A schema compiles, or is refused with the
// keyword and its place named. Instances of compiled schemas are read as compact JSON, byte by byte; the keys of an object in
// the order that the grammar wants, found by trying, so that an invalid instance must be refused in every order.
// The last line is the result; --failures prints what stands behind it. Data: MaskBench of guidance-ai/jsonschemabench.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "run_main.h"
#include "text/constraints.h"

namespace neutrino {
namespace {

constexpr int64_t kTriesMax = 20'000;  // of orders of keys, for one instance

text::VocabularyTokens byte_tokens() {
  text::VocabularyTokens tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.bytes.emplace_back(1, static_cast<char>(byte));
  tokens.bytes.emplace_back("<|end|>");
  tokens.special.assign(256, false);
  tokens.special.push_back(true);
  tokens.end_tokens = {256};
  return tokens;
}

// Reads a value into a matcher. Whatever was consumed of a value that does not fit is taken back.
class Reader {
 public:
  explicit Reader(const text::Grammar& grammar) : matcher_(grammar) {}

  bool accepts(const json::value& value) { return read(value) && matcher_.is_accepting(); }

 private:
  bool read(const json::value& value) {
    if (value.is_array()) return read_array(value.get_array());
    if (value.is_object()) return read_object(value.get_object());
    return consume(to_text(value));
  }

  bool consume(std::string_view text) {
    std::vector<int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    if (matcher_.count_allowed(tokens) != std::ssize(tokens)) return false;
    for (const int32_t token : tokens) check(matcher_.consume(token), "an allowed token was refused");
    consumed_ += std::ssize(tokens);
    return true;
  }

  bool back_to(int64_t consumed) {
    check(matcher_.rollback(consumed_ - consumed), "a rollback failed");
    consumed_ = consumed;
    return false;
  }

  bool read_array(const json::array& array) {
    const int64_t start = consumed_;
    if (!consume("[")) return false;
    for (size_t i = 0; i < array.size(); ++i)
      if ((i > 0 && !consume(",")) || !read(array[i])) return back_to(start);
    return consume("]") || back_to(start);
  }

  bool read_object(const json::object& object) {
    const int64_t start = consumed_;
    std::vector<bool> done(object.size(), false);
    return (consume("{") && read_members(object, done, 0)) || back_to(start);
  }

  bool read_members(const json::object& object, std::vector<bool>& done, size_t count) {
    if (count == object.size()) return consume("}");
    size_t i = 0;
    for (const auto& [key, value] : object) {
      const size_t index = i++;
      if (done[index] || ++tries_ > kTriesMax) continue;
      const int64_t start = consumed_;
      done[index] = true;
      const std::string name = to_text(json::value(key));
      if (consume(fmt::format("{}{}:", count > 0 ? "," : "", name)) && read(value) &&
          read_members(object, done, count + 1))
        return true;
      done[index] = false;
      back_to(start);
    }
    return false;
  }

  text::GrammarMatcher matcher_;
  int64_t consumed_ = 0, tries_ = 0;
};

struct Counts {
  int64_t schemas = 0, compiled = 0, named = 0, valid = 0, accepted = 0, invalid = 0, refused = 0;
  double slowest_ms = 0;
  std::map<std::string, int64_t> keywords = {};
};

class Conformance {
 public:
  explicit Conformance(bool failures) : failures_(failures) {}

  void look_at(const json::object& entry) {
    ++counts.schemas;
    const std::string name(entry.at("name").as_string());
    try {
      const auto start = std::chrono::steady_clock::now();
      const text::Grammar grammar(
          vocabulary_,
          {.kind = text::GrammarKind::json_schema, .text = to_text(entry.at("schema")), .param = "schema"});
      const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
      counts.slowest_ms = std::max(counts.slowest_ms, time.count());
      ++counts.compiled;
      for (const json::value& test : entry.at("tests").as_array())
        look_at_test(name, grammar, test.as_object());
    } catch (const Error& error) {
      refused(name, error);
    }
  }

  Counts counts;

 private:
  void look_at_test(const std::string& name, const text::Grammar& grammar, const json::object& test) {
    const bool valid = test.at("valid").as_bool(), accepted = Reader(grammar).accepts(test.at("data"));
    ++(valid ? counts.valid : counts.invalid);
    if (valid && accepted) ++counts.accepted;
    if (!valid && !accepted) ++counts.refused;
    if (failures_ && valid != accepted)
      fmt::print("{}: {} instance {}: {:.300}\n", name, valid ? "valid" : "invalid",
                 accepted ? "accepted" : "refused", to_text(test.at("data")));
  }

  // A refusal names the keyword as the last part of its path.
  void refused(const std::string& name, const Error& error) {
    const size_t dot = error.param().rfind('.');
    const std::string keyword = dot == std::string::npos ? "" : error.param().substr(dot + 1);
    if (!keyword.empty()) ++counts.named;
    ++counts.keywords[keyword.empty() ? "(not named)" : keyword];
    if (failures_)
      fmt::print("{}: {} at {}: {:.300}\n", name, error.reason(), error.param(), error.message());
  }

  const bool failures_;
  const text::GrammarVocabulary vocabulary_{byte_tokens()};
};

double percent(int64_t part, int64_t whole) {
  return whole == 0 ? 100.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

int run(int argc, char** argv) {
  CLI::App app("How much of JSON Schema is honoured.");
  std::string path;
  bool failures = false;
  int64_t limit = 1 << 30;
  app.add_option("FILE", path, "schemas with instances, one JSON object a line")->required();
  app.add_flag("--failures", failures, "print each refused schema and each instance that was judged wrongly");
  app.add_option("--limit", limit, "look at so many schemas");
  CLI11_PARSE(app, argc, argv);
  std::ifstream file(path);
  if (!file) throw make_error(ErrorCode::not_found, "cannot open {}", path);
  Conformance conformance(failures);
  for (std::string line; conformance.counts.schemas < limit && std::getline(file, line);)
    conformance.look_at(parse_json(line).as_object());
  const Counts& c = conformance.counts;
  for (const auto& [keyword, count] : c.keywords) fmt::print("refused for {}: {}\n", keyword, count);
  fmt::print(
      "schemas {}: compiled {} ({:.1f} %), refused with the keyword named {}, refused without {}; slowest "
      "{:.0f} ms; valid "
      "accepted {} of {} ({:.2f} %), invalid refused {} of {} ({:.2f} %)\n",
      c.schemas, c.compiled, percent(c.compiled, c.schemas), c.named, c.schemas - c.compiled - c.named,
      c.slowest_ms, c.accepted, c.valid, percent(c.accepted, c.valid), c.refused, c.invalid,
      percent(c.refused, c.invalid));
  return c.compiled + c.named == c.schemas && c.refused == c.invalid ? 0 : 1;
}

}  // namespace
}  // namespace neutrino

int main(int argc, char** argv) { return neutrino::run_main(neutrino::run, argc, argv); }
