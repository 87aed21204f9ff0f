#include "chat/lark.h"

#include <fmt/format.h>

namespace neutrino::chat {

std::string lark_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n')
      quoted += "\\n";
    else if (c == '\t')
      quoted += "\\t";
    else if (c == '\r')
      quoted += "\\r";
    else
      quoted += c;
  }
  return quoted + '"';
}

std::string regex_text(std::string_view text) {
  std::string regex;
  for (const char c : text) {
    if (std::string_view(R"(\^$.|?*+()[]{}/&~#-"<>)").find(c) != std::string_view::npos) {
      regex += fmt::format("\\x{:02x}", c);
    } else if (c == '\n') {
      regex += "\\n";
    } else {
      regex += c;
    }
  }
  return regex;
}

std::string lark_regex(std::string_view regex) { return fmt::format("/{}/", regex); }

std::string lark_sequence(std::string_view text, const SpecialTokens& special) {
  std::string sequence, plain;
  const auto flush = [&] {
    if (!plain.empty()) sequence += (sequence.empty() ? "" : " ") + lark_string(plain);
    plain.clear();
  };
  while (!text.empty()) {
    const std::pair<const std::string, int32_t>* found = nullptr;
    for (const auto& entry : special)
      if (text.starts_with(entry.first) && (found == nullptr || entry.first.size() > found->first.size()))
        found = &entry;
    if (found == nullptr) {
      plain += text.front();
      text.remove_prefix(1);
      continue;
    }
    flush();
    sequence += fmt::format("{}<[{}]>", sequence.empty() ? "" : " ", found->second);
    text.remove_prefix(found->first.size());
  }
  flush();
  return sequence;
}

}  // namespace neutrino::chat
