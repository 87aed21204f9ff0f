// A regular expression that is looked for in a text; Rust's syntax (https://docs.rs/regex), in time linear in the text.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

namespace neutrino::text {

// Immutable; any thread.
class Pattern {
 public:
  // Throws Error{invalid_argument, reason "invalid_grammar"} for a source that is no regular expression, or compiles to more
  // than limits::kPatternBytes.
  explicit Pattern(std::string_view source);
  ~Pattern();

  // Of the last match: the first of its groups that took part, or all of it where the pattern has none; nullopt: no match. The
  // result is a part of `text`, which is valid UTF-8.
  std::optional<std::string_view> find_last(std::string_view text) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace neutrino::text
