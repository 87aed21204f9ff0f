#include "text/pattern.h"

#include <neutrino_text/src/lib.rs.h>
#include <rust/cxx.h>

#include "base/error.h"
#include "base/limits.h"

namespace neutrino::text {

struct Pattern::Compiled {
  rust::Box<bridge::Pattern> rust;
};

Pattern::Pattern(std::string_view source) {
  const auto refuse = [](std::string_view why) {
    return make_error(ErrorCode::invalid_argument, "the regular expression cannot be used: {}", why)
        .with_reason("invalid_grammar");
  };
  if (std::ssize(source) > limits::kPatternBytes) throw refuse("it is too large");
  try {
    compiled_ = std::make_unique<Compiled>(
        Compiled{bridge::compile_pattern(rust::Str(source.data(), source.size()), limits::kPatternBytes)});
  } catch (const std::exception& error) {  // also of rust::Str, for bytes that are no UTF-8
    throw refuse(error.what());
  }
}

Pattern::~Pattern() = default;

std::optional<std::string_view> Pattern::find_last(std::string_view text) const {
  const bridge::Found found = bridge::find_last(*compiled_->rust, rust::Str(text.data(), text.size()));
  if (!found.is_found) return std::nullopt;
  return text.substr(found.begin, found.end - found.begin);
}

}  // namespace neutrino::text
