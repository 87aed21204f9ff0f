// Chat templates: Hugging Face's dialect of Jinja, rendered in a sandbox. The front door of this folder.
//
// A template comes with a model file and is treated as hostile: it sees only the JSON it is given, and steps, time, memory,
// output and depth are limited (limits::kTemplate...).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace neutrino::text {

// Immutable; render() may be called from many threads.
class Template {
 public:
  // Throws Error{invalid_argument, reason "template_error"} for a text that is no template.
  explicit Template(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `context`: a JSON object; its keys are the template's variables, in its order. `unix_seconds`: the time that
  // strftime_now tells. Throws Error{invalid_argument, reason "template_error"}; where the template itself raised the
  // error, the message is the template's own.
  std::string render(std::string_view context, int64_t unix_seconds) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace neutrino::text
