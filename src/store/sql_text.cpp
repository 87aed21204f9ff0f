#include "store/sql_text.h"

#include <cctype>

namespace neutrino::store {
namespace {

// The size of what begins at the front of `sql` and is to be left alone: a quoted text or name, a comment; else 0.
size_t opaque_size(std::string_view sql) {
  const auto to_end = [&](std::string_view end, size_t from) {
    const size_t at = sql.find(end, from);
    return at == std::string_view::npos ? sql.size() : at + end.size();
  };
  if (sql.starts_with("'")) return to_end("'", 1);  // a doubled quote begins another text at once
  if (sql.starts_with("\"")) return to_end("\"", 1);
  if (sql.starts_with("--")) return to_end("\n", 2);
  if (sql.starts_with("/*")) return to_end("*/", 2);
  return 0;
}

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

size_t word_size(std::string_view sql) {
  size_t size = 0;
  while (size < sql.size() && is_word_character(sql[size])) ++size;
  return size;
}

// Copies `sql`, giving each word and each other character outside of quotes to `translate` first.
template <typename Translate>
std::string translate_sql(std::string_view sql, Translate translate) {
  std::string out;
  while (!sql.empty()) {
    size_t size = opaque_size(sql);
    if (size > 0) {
      out += sql.substr(0, size);
    } else {
      size = std::max<size_t>(1, word_size(sql));
      translate(sql.substr(0, size), out);
    }
    sql.remove_prefix(size);
  }
  return out;
}

}  // namespace

std::string number_placeholders(std::string_view sql) {
  int number = 0;
  return translate_sql(sql, [&](std::string_view part, std::string& out) {
    if (part == "?") {
      out += '$';
      out += std::to_string(++number);
    } else {
      out += part;
    }
  });
}

std::string order_texts_by_bytes(std::string_view sql) {
  return translate_sql(sql, [](std::string_view part, std::string& out) {
    out += part;
    if (part == "TEXT") out += " COLLATE \"C\"";
  });
}

}  // namespace neutrino::store
