#include "cli/terminal/yaml.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/error.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kValues = 100'000;  // of one document, anchors written out
constexpr int64_t kDepth = 64;

Position position_at(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    if (text == name) return true;
  return false;
}

std::optional<int64_t> integer(std::string_view text) {
  const bool plus = text.starts_with('+');
  const std::string_view digits = text.substr(plus || text.starts_with('-') ? 1 : 0);
  if (digits.empty() || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
  int64_t value = 0;
  const std::string_view read = plus ? digits : text;
  const auto [end, error] = std::from_chars(read.data(), read.data() + read.size(), value);
  if (error != std::errc() || end != read.data() + read.size()) return std::nullopt;
  return value;
}

std::optional<double> real(std::string_view text) {
  if (text.find_first_not_of("0123456789+-.eE") != text.npos) return std::nullopt;
  if (text.find_first_of("0123456789") == text.npos) return std::nullopt;
  double value = 0;
  const std::string_view read = text.substr(text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(read.data(), read.data() + read.size(), value);
  if (error != std::errc() || end != read.data() + read.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// YAML 1.2's core schema, for a scalar without quotes.
json::value plain_scalar(const std::string& text) {
  if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) return nullptr;
  if (is_one_of(text, {"true", "True", "TRUE"})) return true;
  if (is_one_of(text, {"false", "False", "FALSE"})) return false;
  if (const auto value = integer(text)) return *value;
  const bool leading_zero = text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
  if (const auto value = real(text); value && !leading_zero) return *value;
  return json::string(text);
}

std::string child_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

class Reader {
 public:
  Reader(std::string_view name, YamlDocument& document) : name_(name), document_(document) {}

  json::value read(const YAML::Node& node, const std::string& path, int64_t depth) {
    document_.positions.emplace(path, position_at(node.Mark()));
    if (++values_ > kValues) fail(node, fmt::format("more than {} values", kValues));
    if (depth > kDepth) fail(node, fmt::format("nested more than {} deep", kDepth));
    switch (node.Type()) {
      case YAML::NodeType::Sequence: return sequence(node, path, depth);
      case YAML::NodeType::Map: return map(node, path, depth);
      case YAML::NodeType::Scalar: return scalar(node);
      default: return nullptr;
    }
  }

 private:
  json::value scalar(const YAML::Node& node) const {
    const std::string& tag = node.Tag();
    if (tag == "!" || tag == "tag:yaml.org,2002:str") return json::string(node.Scalar());
    if (tag != "?" && !tag.empty()) fail(node, fmt::format("the tag {} is not known", tag));
    return plain_scalar(node.Scalar());
  }
  json::value sequence(const YAML::Node& node, const std::string& path, int64_t depth) {
    json::array array;
    for (size_t i = 0; i < node.size(); ++i)
      array.push_back(read(node[i], fmt::format("{}[{}]", path, i), depth + 1));
    return array;
  }
  json::value map(const YAML::Node& node, const std::string& path, int64_t depth) {
    json::object object;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) fail(entry.first, "a key must be a text");
      const std::string key = entry.first.Scalar();
      if (object.contains(key)) fail(entry.first, fmt::format("{} is there twice", key));
      const std::string where = child_path(path, key);
      document_.positions.emplace(where, position_at(entry.first.Mark()));
      object.emplace(key, read(entry.second, where, depth + 1));
    }
    return object;
  }
  [[noreturn]] void fail(const YAML::Node& node, std::string_view what) const {
    throw make_error(ErrorCode::invalid_argument, "{}{}", place_text(name_, position_at(node.Mark())), what);
  }

  std::string_view name_;
  YamlDocument& document_;
  int64_t values_ = 0;
};

// Would a reader take it for something else than this text?
bool needs_quotes(const std::string& text) {
  if (!plain_scalar(text).is_string()) return true;
  const bool plain =
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./@+ -") ==
      text.npos;
  return !plain || text.starts_with(' ') || text.ends_with(' ') || text.starts_with('-') ||
         text.starts_with('@');
}

// JSON's way of writing a text is one of YAML's.
std::string quoted(const std::string& text) {
  return needs_quotes(text) ? to_text(json::string(text)) : text;
}

bool is_nested(const json::value& value) {
  return (value.is_object() && !value.get_object().empty()) ||
         (value.is_array() && !value.get_array().empty());
}

std::string scalar_text(const json::value& value) {
  return value.is_string() ? quoted(std::string(value.get_string())) : to_text(value);
}

void write(std::string& out, const json::value& value, size_t indent, bool first_is_placed);

void write_entry(std::string& out, std::string_view head, const json::value& value, size_t indent) {
  out.append(head);
  if (!is_nested(value)) {
    out += ' ' + scalar_text(value) + '\n';
  } else if (head == "-") {
    out += ' ';
    write(out, value, indent + 2, true);
  } else {
    out += '\n';
    write(out, value, indent + 2, false);
  }
}

// `first_is_placed`: what stands before the first line is written already.
void write(std::string& out, const json::value& value, size_t indent, bool first_is_placed) {
  const auto begin_line = [&] {
    if (!std::exchange(first_is_placed, false)) out.append(indent, ' ');
  };
  if (value.is_object()) {
    for (const auto& [key, member] : value.get_object())
      begin_line(), write_entry(out, quoted(std::string(key)) + ":", member, indent);
  } else {
    for (const json::value& item : value.get_array()) begin_line(), write_entry(out, "-", item, indent);
  }
}

}  // namespace

std::string place_text(std::string_view name, const Position& position) {
  return fmt::format("{}:{}:{}: ", name, position.line, position.column);
}

Position YamlDocument::position_of(std::string_view path) const {
  for (std::string at(path);;) {
    if (const auto found = positions.find(at); found != positions.end()) return found->second;
    const size_t end = at.find_last_of(".[");
    if (end == at.npos) break;
    at.resize(end);
  }
  const auto whole = positions.find("");
  return whole == positions.end() ? Position{1, 1} : whole->second;
}

std::vector<YamlDocument> parse_yaml(const std::string& text, std::string_view name) {
  std::vector<YamlDocument> documents;
  try {
    for (const YAML::Node& node : YAML::LoadAll(text)) {
      if (node.IsNull()) continue;
      YamlDocument& document = documents.emplace_back();
      document.value = Reader(name, document).read(node, "", 0);
    }
  } catch (const YAML::Exception& error) {
    throw make_error(ErrorCode::invalid_argument, "{}{}", place_text(name, position_at(error.mark)),
                     error.msg);
  }
  return documents;
}

std::string to_yaml(const json::value& value) {
  if (!is_nested(value)) return scalar_text(value) + "\n";
  std::string out;
  write(out, value, 0, false);
  return out;
}

}  // namespace neutrino::cli
