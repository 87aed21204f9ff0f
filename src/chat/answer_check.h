// An executable check of a finished answer: is it one that can be used?
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "chat/candidates.h"
#include "text/constraints.h"
#include "text/pattern.h"

namespace neutrino::chat {

// Immutable; any thread.
class AnswerCheck {
 public:
  // The pattern is found in the text.
  static AnswerCheck of_pattern(std::string_view pattern);
  // The text is JSON that has the path, and there the value, if one is given.
  static AnswerCheck of_path(std::string_view path, std::optional<json::value> value);
  // The text is a JSON instance of the schema. The order of an object's keys is free where `properties` names them.
  static AnswerCheck of_schema(const json::value& schema, std::string_view param);
  // All throw Error{invalid_argument} for a pattern, path or schema that cannot be used.

  bool passes(std::string_view text) const;

 private:
  std::shared_ptr<const text::Pattern> pattern_;
  std::optional<AnswerExtractor> path_;
  std::optional<std::string> value_;  // as the extractor writes it
  std::shared_ptr<const text::Grammar> grammar_;
  json::value schema_;
};

}  // namespace neutrino::chat
