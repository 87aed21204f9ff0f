#include "chat/stop_strings.h"

#include <algorithm>

namespace neutrino::chat {

StopStrings::StopStrings(const std::vector<std::string>& stop) {
  for (const std::string& pattern : stop) {
    Automaton automaton{.pattern = pattern, .failure = std::vector<int32_t>(pattern.size(), 0), .state = 0};
    for (size_t i = 1, border = 0; i < pattern.size(); ++i) {
      while (border > 0 && pattern[i] != pattern[border])
        border = static_cast<size_t>(automaton.failure[border - 1]);
      border += pattern[i] == pattern[border];
      automaton.failure[i] = static_cast<int32_t>(border);
    }
    automata_.push_back(std::move(automaton));
  }
}

bool StopStrings::Automaton::step(char byte) {
  while (state > 0 && pattern[static_cast<size_t>(state)] != byte)
    state = failure[static_cast<size_t>(state) - 1];
  state += pattern[static_cast<size_t>(state)] == byte;
  return static_cast<size_t>(state) == pattern.size();
}

std::optional<size_t> StopStrings::search(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const Automaton* complete = nullptr;
    for (Automaton& automaton : automata_)
      if (automaton.step(text[i]) &&
          (complete == nullptr || automaton.pattern.size() > complete->pattern.size()))
        complete = &automaton;
    if (complete == nullptr) continue;
    matched_ = complete->pattern;
    return i + 1;
  }
  return std::nullopt;
}

size_t StopStrings::held_bytes() const {
  int32_t held = 0;
  for (const Automaton& automaton : automata_) held = std::max(held, automaton.state);
  return static_cast<size_t>(held);
}

void StopStrings::reset() {
  for (Automaton& automaton : automata_) automaton.state = 0;
}

}  // namespace neutrino::chat
