#include "cloud/api/query.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "net/route.h"

namespace neutrino::cloud {
namespace {

std::string decode(std::string text) {
  std::replace(text.begin(), text.end(), '+', ' ');
  std::string decoded;
  if (net::percent_decode(text, decoded)) return decoded;
  throw make_error(ErrorCode::invalid_argument, "the query has a malformed escape in '{}'",
                   text.substr(0, 64));
}

Error bad(const std::string& name, std::string_view expected, std::string_view got) {
  return make_error(ErrorCode::invalid_argument, "{} must be {}, got '{}'", name, expected, got.substr(0, 64))
      .with_param(name);
}

}  // namespace

Query parse_query(std::string_view text) {
  Query query;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    const std::string name = decode(std::string(pair.substr(0, equals)));
    std::string value =
        decode(std::string(equals < pair.size() ? pair.substr(equals + 1) : std::string_view()));
    if (!query.emplace(name, std::move(value)).second)
      throw make_error(ErrorCode::invalid_argument, "{} is there twice", name).with_param(name);
  }
  return query;
}

void allow_only(const Query& query, std::initializer_list<std::string_view> names) {
  for (const auto& [name, value] : query)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw make_error(ErrorCode::invalid_argument, "{} is not a parameter of this route", name)
          .with_param(name);
}

bool query_flag(const Query& query, const std::string& name) {
  const std::string text = query_text(query, name);
  if (text.empty() || text == "false") return false;
  if (text == "true") return true;
  throw bad(name, "true or false", text);
}

std::string query_text(const Query& query, const std::string& name) {
  const auto found = query.find(name);
  return found == query.end() ? std::string() : found->second;
}

int64_t query_integer(const Query& query, const std::string& name, int64_t otherwise, int64_t minimum,
                      int64_t maximum) {
  const auto found = query.find(name);
  if (found == query.end()) return otherwise;
  const std::string& text = found->second;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < minimum || value > maximum)
    throw bad(name, fmt::format("an integer, {} to {}", minimum, maximum), text);
  return value;
}

std::vector<std::string> query_list(const Query& query, const std::string& name) {
  std::vector<std::string> items;
  std::string text = query_text(query, name);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) items.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

}  // namespace neutrino::cloud
