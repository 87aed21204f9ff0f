#include "text/templates.h"

#include <neutrino_text/src/lib.rs.h>
#include <rust/cxx.h>

#include "base/error.h"
#include "base/limits.h"

namespace neutrino::text {
namespace {

Error template_error(std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_reason("template_error");
}

bridge::Limits template_limits() {
  bridge::Limits limits{};
  limits.source_bytes = limits::kTemplateSourceBytes;
  limits.fuel = limits::kTemplateFuel;
  limits.output_bytes = limits::kTemplateOutputBytes;
  limits.depth = limits::kTemplateDepth;
  limits.milliseconds = limits::kTemplateMilliseconds;
  limits.memory_bytes = limits::kTemplateMemoryBytes;
  return limits;
}

// Text from outside: rust::Str accepts only UTF-8.
rust::Str utf8(std::string_view text, const char* what) {
  try {
    return rust::Str(text.data(), text.size());
  } catch (const std::exception&) {
    throw template_error(fmt::format("{} is not valid UTF-8", what));
  }
}

}  // namespace

struct Template::Compiled {
  rust::Box<bridge::Template> rust;
};

Template::Template(std::string_view source) {
  const rust::Str text = utf8(source, "the chat template");
  try {
    compiled_ = std::make_unique<Compiled>(Compiled{bridge::compile(text, template_limits())});
  } catch (const rust::Error& error) {
    throw template_error(fmt::format("the chat template cannot be compiled: {}", error.what()));
  }
}

Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

std::string Template::render(std::string_view context, int64_t unix_seconds) const {
  const bridge::Rendered result =
      bridge::render(*compiled_->rust, utf8(context, "the template's context"), unix_seconds);
  if (result.error.empty()) return std::string(result.text);
  const std::string message(result.error);
  throw template_error(result.raised ? message : fmt::format("the chat template failed: {}", message));
}

}  // namespace neutrino::text
