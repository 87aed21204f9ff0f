// How a normalised text is cut into the pieces that the model sees.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/pipeline.h"

namespace neutrino::tokenizer {

// Where a text stands: some steps treat the beginning of the whole text differently.
enum class Place { beginning, inside };

// Cuts the text by the steps, one after the other, and calls visit(piece) for each piece that is not empty, in order. Pieces
// live until the next call.
template <typename Visit>
class Pieces {
 public:
  Pieces(const std::vector<PreTokenizer>& steps, const Visit& visit) : steps_(steps), visit_(visit) {}

  void cut(std::string_view text, Place place) { run(0, text, place); }

 private:
  void run(size_t index, std::string_view text, Place place) {
    if (text.empty()) return;
    if (index == steps_.size()) return visit_(text);
    const PreTokenizer& step = steps_[index];
    switch (step.kind) {
      case PreTokenizer::Kind::split: return split(step, index, text, place);
      case PreTokenizer::Kind::space: return space(index, text, place);
      case PreTokenizer::Kind::metaspace: return metaspace(step, index, text, place);
    }
  }

  void space(size_t index, std::string_view text, Place place) {
    if (text.starts_with(' ')) return run(index + 1, text, place);
    run(index + 1, std::string(1, ' ').append(text), place);
  }

  void metaspace(const PreTokenizer& step, size_t index, std::string_view text, Place place) {
    std::string marked;
    marked.reserve(text.size() + text.size() / 2);
    const bool wanted = step.prepend == PreTokenizer::Prepend::always ||
                        (step.prepend == PreTokenizer::Prepend::first && place == Place::beginning);
    if (wanted && !text.starts_with(' ') && !text.starts_with(step.content)) marked += step.content;
    for (const char c : text) {
      if (c == ' ')
        marked += step.content;
      else
        marked += c;
    }
    if (!step.split) return run(index + 1, marked, place);
    const std::string_view whole = marked;
    for (size_t begin = 0; begin < whole.size();) {
      const size_t end = std::min(whole.find(step.content, begin + 1), whole.size());
      run(index + 1, whole.substr(begin, end - begin), begin == 0 ? place : Place::inside);
      begin = end;
    }
  }

  // A stretch of the text, not yet handed on.
  struct Held {
    size_t begin = 0, end = 0;
    bool delimiter = false;
    bool empty() const { return begin == end; }
  };

  void split(const PreTokenizer& step, size_t index, std::string_view text, Place place) {
    Held held, gap;
    const auto hand_on = [&](Held& stretch) {
      if (!stretch.empty())
        run(index + 1, text.substr(stretch.begin, stretch.end - stretch.begin),
            stretch.begin == 0 ? place : Place::inside);
      stretch = {};
    };
    const auto offer = [&](Held stretch) {
      if (stretch.empty()) return;
      switch (step.delimiters) {
        case Delimiters::isolated: return hand_on(stretch);
        case Delimiters::removed: return stretch.delimiter ? void() : hand_on(stretch);
        case Delimiters::merged_with_previous: {
          const bool joins = stretch.delimiter && !held.empty() && !held.delimiter;
          if (joins) held.end = stretch.end;
          hand_on(held);
          if (!joins) held = stretch;
          return;
        }
        case Delimiters::merged_with_next: {
          const bool joins = !stretch.delimiter && !held.empty() && held.delimiter;
          if (joins) held.end = stretch.end;
          hand_on(held);
          if (!joins) held = stretch;
          return;
        }
        case Delimiters::contiguous: {
          if (!held.empty() && held.delimiter != stretch.delimiter) hand_on(held);
          if (held.empty())
            held = stretch;
          else
            held.end = stretch.end;
          return;
        }
      }
    };
    for (size_t at = 0; at < text.size();) {
      const Stretch next = step.pattern.next(text.substr(at));
      if (next.matched) {
        offer(std::exchange(gap, {}));
        offer({at, at + next.length, !step.inverted});
      } else {
        if (gap.empty()) gap = {at, at, step.inverted};
        gap.end = at + next.length;
      }
      at += next.length;
    }
    offer(gap);
    hand_on(held);
  }

  const std::vector<PreTokenizer>& steps_;
  const Visit& visit_;
};

}  // namespace neutrino::tokenizer
