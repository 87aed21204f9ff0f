#include "cloud/api/csv.h"

#include <fmt/format.h>

#include <string_view>

namespace neutrino::cloud {
namespace {

bool looks_like_a_formula(std::string_view text) {
  return !text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos;
}

void append_text(std::string& line, std::string_view text) {
  const std::string safe = (looks_like_a_formula(text) ? "'" : "") + std::string(text);
  if (safe.find_first_of(",\"\r\n") == std::string::npos) {
    line += safe;
    return;
  }
  line += '"';
  for (const char c : safe) line.append(c == '"' ? 2 : 1, c);
  line += '"';
}

void append_cell(std::string& line, const json::value* value) {
  if (!value || value->is_null()) return;
  if (value->is_string()) return append_text(line, value->get_string());
  if (value->is_object() || value->is_array()) return append_text(line, to_text(*value));
  line += value->is_double() ? fmt::format("{}", value->get_double()) : to_text(*value);
}

}  // namespace

std::string to_csv(const std::vector<std::string>& names, const json::array& objects) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) append_text(text.append(i == 0 ? "" : ","), names[i]);
  text += "\r\n";
  for (const json::value& object : objects) {
    for (size_t i = 0; i < names.size(); ++i)
      append_cell(text.append(i == 0 ? "" : ","), object.as_object().if_contains(names[i]));
    text += "\r\n";
  }
  return text;
}

}  // namespace neutrino::cloud
