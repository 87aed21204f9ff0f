#include "chat/chat_template.h"

#include <algorithm>
#include <cctype>
#include <chrono>

#include "base/error.h"
#include "base/fault.h"
#include "base/sha256.h"

namespace neutrino::chat {
namespace {

struct KnownTemplate {
  std::string_view sha256, family;
};

// Templates as their makers published them. A file whose template is not here may still be fine, or may have been changed
// by somebody on its way: whoever loads it should say so.
constexpr KnownTemplate kKnownTemplates[] = {
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "smollm2-instruct"},
};

// What a template gets from us, or calls. A request must not put something else in its place.
constexpr std::string_view kReserved[] = {
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "chat_template",
    "raise_exception",
    "strftime_now",
    "range",
    "dict",
    "namespace",
    "tokenize",
    "return_dict",
    "loop",
    "self",
    "caller",
    "conversation",
};

// Ends the final message while it is rendered; the prompt is cut where it comes out. The space at its end shows whether the
// template trims messages. (transformers does the same.)
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

Error template_error(std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_reason("template_error");
}

// The keys and their order are transformers': absent values are left out, and reasoning goes by its two names.
json::object message_object(const Message& message) {
  json::object object;
  if (message.reasoning_content) object["thinking"] = *message.reasoning_content;
  object["role"] = message.role;
  if (message.content) object["content"] = *message.content;
  if (message.name) object["name"] = *message.name;
  if (message.reasoning_content) object["reasoning_content"] = *message.reasoning_content;
  if (!message.tool_calls.empty()) object["tool_calls"] = message.tool_calls;
  if (message.tool_call_id) object["tool_call_id"] = *message.tool_call_id;
  return object;
}

void add_arguments(const json::object& arguments, json::object& context) {
  for (const auto& [name, value] : arguments) {
    if (std::ranges::count(kReserved, std::string_view(name)))
      throw make_error(ErrorCode::invalid_argument, "the template argument \"{}\" is set by the server",
                       std::string_view(name))
          .with_reason("unsupported_parameter")
          .with_param("chat_template_kwargs." + std::string(name));
    context[name] = value;
  }
}

json::array message_list(const Conversation& conversation) {
  json::array messages;
  for (const Message& message : conversation.messages) messages.push_back(message_object(message));
  if (conversation.continue_final_message) {
    json::object& last = messages.back().as_object();
    last["content"] = std::string(last.at("content").as_string()) + std::string(kContinueTag);
  }
  return messages;
}

void check_conversation(const Conversation& conversation) {
  if (conversation.messages.empty())
    throw template_error("a conversation must have at least one message, got none");
  if (!conversation.continue_final_message) return;
  if (conversation.add_generation_prompt)
    throw template_error("continue_final_message and add_generation_prompt exclude each other, got both");
  if (!conversation.messages.back().content)
    throw template_error("continue_final_message needs a final message with content, got one without");
}

std::string_view strip(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string cut_at_tag(std::string text, std::string_view final_content) {
  const size_t at = text.rfind(strip(kContinueTag));
  if (at == std::string::npos || text.find(strip(final_content)) == std::string::npos)
    throw template_error("continue_final_message: the template does not show the final message as it is");
  const bool spaces_kept = std::string_view(text).substr(at).starts_with(kContinueTag);
  text.resize(at);
  if (!spaces_kept) text.resize(text.find_last_not_of(" \t\n\r\v\f") + 1);
  return text;
}

int64_t now() { return std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1); }

}  // namespace

bool mentions_word(std::string_view source, std::string_view word) {
  const auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  if (word.empty()) return false;
  for (size_t at = source.find(word); at != std::string_view::npos; at = source.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool begins = at == 0 || !in_word(source[at - 1]),
               ends = end == source.size() || !in_word(source[end]);
    if (begins && ends) return true;
  }
  return false;
}

ChatTemplate::ChatTemplate(std::string_view source, std::string bos_text, std::string eos_text)
    : source_(source),
      sha256_(to_hex(neutrino::sha256(source))),
      bos_text_(std::move(bos_text)),
      eos_text_(std::move(eos_text)),
      template_(source) {}

std::string ChatTemplate::render(const Conversation& conversation,
                                 std::optional<int64_t> unix_seconds) const {
  fault_point("chat_template");
  check_conversation(conversation);
  json::object context;
  context["messages"] = message_list(conversation);
  context["tools"] = conversation.tools.empty() ? json::value(nullptr) : json::value(conversation.tools);
  context["documents"] = nullptr;
  context["add_generation_prompt"] = conversation.add_generation_prompt;
  if (!bos_text_.empty()) context["bos_token"] = bos_text_;
  if (!eos_text_.empty()) context["eos_token"] = eos_text_;
  add_arguments(conversation.template_arguments, context);
  std::string text = template_.render(to_text(context), unix_seconds ? *unix_seconds : now());
  if (!conversation.continue_final_message) return text;
  return cut_at_tag(std::move(text), *conversation.messages.back().content);
}

std::optional<std::string_view> ChatTemplate::family() const {
  for (const KnownTemplate& known : kKnownTemplates)
    if (known.sha256 == sha256_) return known.family;
  return std::nullopt;
}

}  // namespace neutrino::chat
