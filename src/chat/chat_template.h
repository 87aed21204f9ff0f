// A model's chat template: from a conversation to the text of the prompt, as transformers' apply_chat_template renders it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "chat/message.h"
#include "text/templates.h"

namespace neutrino::chat {

// Does a template's text contain this word, not as a part of a longer one?
bool mentions_word(std::string_view source, std::string_view word);

// Immutable; used from many threads. Rendering may take milliseconds: not on an io thread.
class ChatTemplate {
 public:
  // `bos_text`, `eos_text`: the special tokens' texts, or empty. Throws Error{invalid_argument, reason "template_error"}.
  ChatTemplate(std::string_view source, std::string bos_text, std::string eos_text);

  // Throws Error{invalid_argument} with reason "template_error", or "unsupported_parameter" for a template argument that
  // would shadow what the template gets from us. `unix_seconds` is what the template's clock tells; absent: the time.
  std::string render(const Conversation& conversation,
                     std::optional<int64_t> unix_seconds = std::nullopt) const;

  // Does the template's text contain this word? An argument that it does not mention has no effect; callers report it.
  bool mentions(std::string_view name) const { return mentions_word(source_, name); }

  const std::string& sha256() const { return sha256_; }  // of the source, as it stands in the file
  std::optional<std::string_view> family() const;        // nullopt: not one that we know; warn
  const std::string& source() const { return source_; }

 private:
  std::string source_;
  std::string sha256_;
  std::string bos_text_, eos_text_;
  text::Template template_;
};

}  // namespace neutrino::chat
