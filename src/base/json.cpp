#include "base/json.h"

#include <boost/json/basic_parser_impl.hpp>

#include <cmath>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/limits.h"

namespace neutrino {
namespace {

// Walks a text once before it is built: counts values, finds duplicate keys. Boost's own DOM keeps the last of two keys.
struct Audit {
  constexpr static std::size_t max_object_size = -1, max_array_size = -1, max_key_size = -1,
                               max_string_size = -1;
  std::vector<std::set<std::string, std::less<>>> keys;
  std::string key_part, duplicate;
  int64_t values = 0, values_max = 0;

  bool count(json::error_code& ec) {
    if (++values <= values_max) return true;
    ec = json::error::array_too_large;
    return false;
  }
  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code& ec) { return keys.emplace_back(), count(ec); }
  bool on_object_end(std::size_t, json::error_code&) { return keys.pop_back(), true; }
  bool on_array_begin(json::error_code& ec) { return count(ec); }
  bool on_array_end(std::size_t, json::error_code&) { return true; }
  bool on_key_part(json::string_view part, std::size_t, json::error_code&) { return key_part += part, true; }
  bool on_key(json::string_view part, std::size_t, json::error_code& ec) {
    key_part += part;
    if (!keys.back().insert(key_part).second) {
      duplicate = key_part;
      ec = json::error::syntax;
      return false;
    }
    return key_part.clear(), true;
  }
  bool on_string_part(json::string_view, std::size_t, json::error_code&) { return true; }
  bool on_string(json::string_view, std::size_t, json::error_code& ec) { return count(ec); }
  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(std::int64_t, json::string_view, json::error_code& ec) { return count(ec); }
  bool on_uint64(std::uint64_t, json::string_view, json::error_code& ec) { return count(ec); }
  bool on_double(double, json::string_view, json::error_code& ec) { return count(ec); }
  bool on_bool(bool, json::error_code& ec) { return count(ec); }
  bool on_null(json::error_code& ec) { return count(ec); }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }
};

void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        else
          out += c;
    }
  }
  out += '"';
}

// Boost writes 1.5 as 1.5E0; people read these texts too. A double stays one when it is read back: 1.0, not 1. JSON has no
// NaN and no infinity: they become null.
void append_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  const std::string text = fmt::format("{}", value);
  out += text;
  if (text.find_first_of(".e") == text.npos) out += ".0";
}

void append(std::string& out, const json::value& value);

void append_object(std::string& out, const json::object& object) {
  char separator = '{';
  if (object.empty()) out += '{';
  for (const auto& [key, member] : object) {
    out += std::exchange(separator, ',');
    append_string(out, key);
    out += ':';
    append(out, member);
  }
  out += '}';
}

void append_array(std::string& out, const json::array& array) {
  char separator = '[';
  if (array.empty()) out += '[';
  for (const json::value& element : array) {
    out += std::exchange(separator, ',');
    append(out, element);
  }
  out += ']';
}

void append(std::string& out, const json::value& value) {
  switch (value.kind()) {
    case json::kind::null: out += "null"; break;
    case json::kind::bool_: out += value.get_bool() ? "true" : "false"; break;
    case json::kind::int64: out += std::to_string(value.get_int64()); break;
    case json::kind::uint64: out += std::to_string(value.get_uint64()); break;
    case json::kind::double_: append_number(out, value.get_double()); break;
    case json::kind::string: append_string(out, value.get_string()); break;
    case json::kind::array: append_array(out, value.get_array()); break;
    case json::kind::object: append_object(out, value.get_object()); break;
  }
}

Error invalid_json(std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_reason("invalid_json");
}

}  // namespace

json::value parse_json(std::string_view text, int64_t values_max) {
  json::parse_options options;
  options.max_depth = limits::kJsonDepth;
  json::basic_parser<Audit> audit(options);
  audit.handler().values_max = values_max;
  json::error_code ec;
  const std::size_t used = audit.write_some(false, text.data(), text.size(), ec);
  if (!audit.handler().duplicate.empty())
    throw invalid_json(fmt::format("the JSON object has the key \"{:.100}\" twice (byte {})",
                                   audit.handler().duplicate, used));
  if (audit.handler().values > values_max)
    throw invalid_json(fmt::format("the JSON text must hold at most {} values", values_max));
  if (!ec && used < text.size()) ec = json::error::extra_data;
  if (ec) throw invalid_json(fmt::format("the JSON text is not valid at byte {}: {}", used, ec.message()));
  json::parser parser({}, options);
  parser.write(text.data(), text.size(), ec);
  if (ec) throw invalid_json(fmt::format("the JSON text is not valid: {}", ec.message()));
  return parser.release();
}

std::string to_text(const json::value& value) {
  std::string text;
  append(text, value);
  return text;
}

}  // namespace neutrino
