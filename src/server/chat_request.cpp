#include "server/chat_request.h"

#include <algorithm>
#include <set>

#include "base/limits.h"
#include "chat/answer_syntax.h"
#include "net/schema.h"
#include "server/reasoning_request.h"
#include "server/request_fields.h"
#include "server/test_time.h"
#include "server/tool_request.h"

namespace neutrino::server {
namespace {

using net::find;

const std::vector<std::string> kRoles = {"system", "developer", "user", "assistant", "tool"};
// What the template gets from the server itself; an argument of that name would replace it.
constexpr std::string_view kReservedArguments[] = {"messages",
                                                   "tools",
                                                   "documents",
                                                   "add_generation_prompt",
                                                   "bos_token",
                                                   "eos_token",
                                                   "continue_final_message",
                                                   "chat_template"};

const json::string& text_field(const json::object& object, std::string_view name, const std::string& path) {
  const auto* value = find(object, name);
  const std::string where = path + "." + std::string(name);
  if (!value) throw invalid_field(where + " is required", where, "missing_required_parameter");
  if (!value->is_string()) throw invalid_field(where + " must be of type string", where, "invalid_type");
  return value->get_string();
}

std::optional<std::string> optional_text(const json::object& object, std::string_view name,
                                         const std::string& path) {
  if (!find(object, name)) return std::nullopt;
  return std::string(text_field(object, name, path));
}

// Content as one string: parts are joined by line breaks; only parts of text can be.
std::string read_content(const json::value& content, const std::string& path) {
  if (content.is_string()) return std::string(content.get_string());
  if (!content.is_array())
    throw invalid_field(path + " must be a string or an array of parts", path, "invalid_type");
  std::string text;
  size_t index = 0;
  for (const json::value& part : content.get_array()) {
    const std::string where = fmt::format("{}[{}]", path, index);
    if (!part.is_object()) throw invalid_field(where + " must be of type object", where, "invalid_type");
    const json::string& type = text_field(part.get_object(), "type", where);
    if (type != "text")
      throw invalid_field(fmt::format("{}.type must be \"text\", got \"{:.40}\": this model takes text alone",
                                      where, std::string_view(type)),
                          where + ".type", "unsupported_parameter");
    if (index++ > 0) text += '\n';
    text += text_field(part.get_object(), "text", where);
  }
  return text;
}

void check_arguments(const json::string& arguments, const std::string& path) {
  if (arguments.empty()) return;
  try {
    if (parse_json(arguments).is_object()) return;
  } catch (const Error&) {
  }
  throw invalid_field(path + " must be the text of a JSON object", path, "invalid_tool_arguments");
}

void check_tool_call(const json::value& call, const std::string& path, std::set<std::string>& call_ids) {
  if (!call.is_object()) throw invalid_field(path + " must be of type object", path, "invalid_type");
  const json::object& object = call.get_object();
  call_ids.emplace(text_field(object, "id", path));
  if (find(object, "type") && text_field(object, "type", path) != "function")
    throw invalid_field(path + ".type must be \"function\"", path + ".type");
  const auto* function = find(object, "function");
  const std::string where = path + ".function";
  if (!function || !function->is_object())
    throw invalid_field(where + " must be an object", where, "invalid_type");
  text_field(function->get_object(), "name", where);
  check_arguments(text_field(function->get_object(), "arguments", where), where + ".arguments");
}

json::array read_tool_calls(const json::object& object, const std::string& path,
                            std::set<std::string>& call_ids) {
  const auto* calls = find(object, "tool_calls");
  if (!calls) return {};
  const std::string where = path + ".tool_calls";
  if (!calls->is_array()) throw invalid_field(where + " must be of type array", where, "invalid_type");
  size_t index = 0;
  for (const json::value& call : calls->get_array())
    check_tool_call(call, fmt::format("{}[{}]", where, index++), call_ids);
  return calls->get_array();
}

chat::Message read_message(const json::value& value, const std::string& path,
                           std::set<std::string>& call_ids) {
  if (!value.is_object()) throw invalid_field(path + " must be of type object", path, "invalid_type");
  const json::object& object = value.get_object();
  chat::Message message;
  message.role = text_field(object, "role", path);
  if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end())
    throw invalid_field(
        fmt::format("{}.role must be one of {}, got \"{:.40}\"", path, joined(kRoles, ", "), message.role),
        path + ".role");
  if (message.role == "developer") message.role = "system";  // what it means to models that know no such role
  if (const auto* content = find(object, "content"))
    message.content = read_content(*content, path + ".content");
  message.name = optional_text(object, "name", path);
  message.reasoning_content =
      optional_text(object, find(object, "reasoning_content") ? "reasoning_content" : "reasoning", path);
  if (message.role == "assistant")
    message.tool_calls = read_tool_calls(object, path, call_ids);
  else if (find(object, "tool_calls"))
    throw invalid_field(path + ".tool_calls is for the role assistant", path + ".tool_calls");
  if (!message.content && message.tool_calls.empty())
    throw invalid_field(path + ".content is required", path + ".content", "missing_required_parameter");
  if (message.role == "tool") {
    message.tool_call_id = text_field(object, "tool_call_id", path);
    if (!call_ids.contains(*message.tool_call_id))
      throw invalid_field(path + ".tool_call_id names no tool call of an earlier message",
                          path + ".tool_call_id");
  }
  return message;
}

void read_logprobs(const json::object& body, ChatRequest& request) {
  const auto* wanted = find(body, "logprobs");
  const auto* top = find(body, "top_logprobs");
  const bool on = wanted && wanted->get_bool();
  if (top && !on) throw invalid_field("top_logprobs needs logprobs: true", "top_logprobs");
  if (on) request.sampling.logprobs = top ? net::to_integer(*top) : 0;
}

// Several candidates for one choice.
void read_candidates(const json::object& body, ChatRequest& request) {
  const auto* reasoning = find(body, "reasoning");
  auto test_time = reasoning ? read_test_time(reasoning->get_object()) : std::nullopt;
  if (!test_time) return;
  if (request.n != 1)
    throw invalid_field("n must be 1 with a reasoning.strategy, which has an n of its own", "n");
  if (test_time->n > 1 && request.sampling.temperature == 0)
    throw invalid_field("reasoning.n above 1 needs a temperature above 0: all candidates would be the same",
                        "temperature");
  request.n = test_time->n;
  request.test_time = std::make_shared<const TestTime>(std::move(*test_time));
}

// The prompt ends with the open tag, or the message that is to be continued has one and does not close it.
bool begins_in_reasoning(const chat::Conversation& conversation, std::string_view prompt,
                         const chat::ReasoningTags& tags) {
  if (chat::is_harmony(tags)) return false;
  if (!conversation.continue_final_message) return chat::ends_in_reasoning(prompt, tags);
  const std::string& text = *conversation.messages.back().content;
  const size_t open = text.rfind(tags.open), close = text.rfind(tags.close);
  return open != std::string::npos && (close == std::string::npos || close < open);
}

}  // namespace

chat::Conversation read_conversation(const json::object& body) {
  chat::Conversation conversation;
  const json::array& messages = find(body, "messages")->get_array();
  if (messages.empty() || static_cast<int64_t>(messages.size()) > limits::kMessages)
    throw invalid_field(fmt::format("messages must hold 1-{}, got {}", limits::kMessages, messages.size()),
                        "messages");
  std::set<std::string> call_ids;
  for (const json::value& message : messages)
    conversation.messages.push_back(
        read_message(message, fmt::format("messages[{}]", conversation.messages.size()), call_ids));
  if (const auto* tools = find(body, "tools")) {
    check_tools(tools->get_array());
    conversation.tools = tools->get_array();
  }
  if (const auto* arguments = find(body, "chat_template_kwargs"))
    conversation.template_arguments = arguments->get_object();
  for (const std::string_view name : kReservedArguments)
    if (conversation.template_arguments.contains(name))
      throw invalid_field(fmt::format("chat_template_kwargs.{} is set by the server", name),
                          fmt::format("chat_template_kwargs.{}", name));
  if (const auto* value = find(body, "add_generation_prompt"))
    conversation.add_generation_prompt = value->get_bool();
  if (const auto* value = find(body, "continue_final_message"))
    conversation.continue_final_message = value->get_bool();
  if (conversation.continue_final_message) {
    if (find(body, "add_generation_prompt") && conversation.add_generation_prompt)
      throw invalid_field("continue_final_message and add_generation_prompt exclude each other",
                          "continue_final_message");
    if (conversation.messages.back().role != "assistant")
      throw invalid_field("continue_final_message needs a last message of the role assistant",
                          "continue_final_message");
    conversation.add_generation_prompt = false;
  }
  return conversation;
}

void note_conversation_fields(const json::object& body, std::vector<std::string>& ignored) {
  for (const char* const name :
       {"tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"})
    if (find(body, name)) ignored.emplace_back(name);
}

void settle_answer(const chat::ChatModelInfo& info, std::string_view prompt, ChatRequest& request) {
  const bool calls = request.rules.choice != chat::ToolChoice::none;
  const chat::ReasoningTags* const tags = info.answer.reasoning;
  if (tags != nullptr || calls) {
    auto syntax = std::make_shared<chat::AnswerSyntax>();
    syntax->reasoning = tags;
    syntax->in_reasoning = tags != nullptr && begins_in_reasoning(request.conversation, prompt, *tags);
    if (calls) syntax->calls = info.answer.calls;
    if (calls) syntax->tools = known_tools(request.rules);
    request.answer = std::move(syntax);
  }
  request.rules.content = request.constraint;
  request.constraint = chat::answer_grammar(info.answer, request.rules);
}

ChatRequest parse_chat_request(std::string_view body, const ModelView& model) {
  ChatRequest request;
  const json::object object = net::parse_body(body, kChatFields, request.ignored);
  request.sampling.max_tokens = kAsManyAsFit;
  request.add_special_tokens = false;  // the template has written them
  read_sampling(object, model, request);
  read_logprobs(object, request);
  if (const auto* shown = find(object, "include_reasoning")) request.output.reasoning = shown->get_bool();
  request.conversation = read_conversation(object);
  check_template_arguments(request.conversation, model.info);
  request.rules = read_answer_rules(object);
  request.thinking_budget = read_reasoning(object, model.info, request.conversation);
  read_candidates(object, request);
  if (!model.info.has_chat_template)
    throw invalid_field("this model has no chat template; use /v1/completions", "model", "template_error");
  return request;
}

}  // namespace neutrino::server
