#include "server/reasoning_request.h"

#include <algorithm>
#include <cmath>

#include "chat/chat_template.h"
#include "chat/reasoning.h"
#include "net/schema.h"
#include "server/inference_request.h"

namespace neutrino::server {
namespace {

using net::find;

constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};

// A value at "a" or "a.b", with that path; an object on the way must be one.
const json::value* find_at(const json::object& body, std::string_view path) {
  const size_t dot = path.find('.');
  const auto* value = find(body, path.substr(0, dot));
  if (!value || dot == std::string_view::npos) return value;
  if (!value->is_object()) {
    const std::string name(path.substr(0, dot));
    throw invalid_field(name + " must be of type object", name, "invalid_type");
  }
  return find(value->get_object(), path.substr(dot + 1));
}

class ReasoningFields {
 public:
  ReasoningFields(const json::object& body, const chat::ChatModelInfo& info, chat::Conversation& conversation)
      : body_(body), info_(info), conversation_(conversation) {}

  std::optional<int64_t> read() {
    for (const std::string_view path :
         {"thinking_token_budget", "max_thinking_tokens", "nvext.max_thinking_tokens",
          "thinking.budget_tokens", "reasoning.budget", "reasoning.budget_tokens"})
      read_budget(path);
    read_switch();
    for (const std::string_view path : {"reasoning_effort", "reasoning.effort"}) read_effort(path);
    return budget_;
  }

 private:
  void read_budget(std::string_view path) {
    const auto* value = find_at(body_, path);
    if (!value) return;
    const std::string name(path);
    const bool whole =
        value->is_int64() || (value->is_double() && value->get_double() == std::floor(value->get_double()));
    if (!whole) throw invalid_field(name + " must be of type integer", name, "invalid_type");
    const int64_t budget = net::to_integer(*value);
    if (budget < 0) throw invalid_field(fmt::format("{} must be at least 0, got {}", name, budget), name);
    if (budget_ && *budget_ != budget)
      throw invalid_field(fmt::format("{} ({}) and {} ({}) must be equal when both are given", budget_name_,
                                      *budget_, name, budget),
                          name);
    if (info_.answer.reasoning == nullptr)
      throw invalid_field(name + " is not supported: this model does not think", name,
                          "unsupported_parameter");
    budget_ = budget;
    budget_name_ = name;
  }

  void read_switch() {
    const auto* type = find_at(body_, "thinking.type");
    if (!type) return;
    if (!type->is_string())
      throw invalid_field("thinking.type must be of type string", "thinking.type", "invalid_type");
    const std::string_view name = type->get_string();
    if (name == "disabled")
      set_effort("none", "thinking.type");
    else if (name != "enabled" && name != "adaptive")
      throw invalid_field("thinking.type must be \"enabled\", \"disabled\" or \"adaptive\"", "thinking.type");
    else if (!set_switch(true) && info_.answer.reasoning == nullptr)
      throw invalid_field("thinking.type is not supported: this model does not think", "thinking.type",
                          "unsupported_parameter");
  }

  void read_effort(std::string_view path) {
    const auto* value = find_at(body_, path);
    if (!value) return;
    const std::string name(path);
    if (!value->is_string()) throw invalid_field(name + " must be of type string", name, "invalid_type");
    const std::string_view effort = value->get_string();
    if (std::ranges::find(kEfforts, effort) == std::end(kEfforts))
      throw invalid_field(
          fmt::format("{} must be none, minimal, low, medium, high, xhigh or max, got \"{:.40}\"", name,
                      effort),
          name);
    set_effort(effort, name);
  }

  void set_effort(std::string_view effort, const std::string& name) {
    const bool harmony = info_.answer.reasoning != nullptr && chat::is_harmony(*info_.answer.reasoning);
    if (mentions("reasoning_effort")) {
      if (harmony && effort != "low" && effort != "medium" && effort != "high")
        throw invalid_field(
            fmt::format("{} must be low, medium or high for this model, got \"{}\"", name, effort), name,
            "unsupported_parameter");
      set_argument("reasoning_effort", json::string(effort));
      if (effort == "none") set_switch(false);
      return;
    }
    if (set_switch(effort != "none")) return;
    if (effort != "none")
      throw invalid_field(name + " is not supported: this model has no levels of effort", name,
                          "unsupported_parameter");
    if (info_.answer.reasoning == nullptr) return;  // it does not think
    if (budget_ && *budget_ > 0)
      throw invalid_field(fmt::format("{} (none) and {} exclude each other", name, budget_name_), name);
    budget_ = 0;
  }

  // False: the template has no switch.
  bool set_switch(bool on) {
    for (const char* const name : {"enable_thinking", "thinking"})
      if (mentions(name)) {
        set_argument(name, on);
        return true;
      }
    return false;
  }

  // What chat_template_kwargs says goes before.
  void set_argument(std::string_view name, json::value value) {
    if (!conversation_.template_arguments.contains(name))
      conversation_.template_arguments[name] = std::move(value);
  }

  bool mentions(std::string_view name) const { return chat::mentions_word(info_.chat_template, name); }

  const json::object& body_;
  const chat::ChatModelInfo& info_;
  chat::Conversation& conversation_;
  std::optional<int64_t> budget_;
  std::string budget_name_;
};

}  // namespace

std::optional<int64_t> read_reasoning(const json::object& body, const chat::ChatModelInfo& info,
                                      chat::Conversation& conversation) {
  return ReasoningFields(body, info, conversation).read();
}

void check_template_arguments(const chat::Conversation& conversation, const chat::ChatModelInfo& info) {
  for (const auto& [name, value] : conversation.template_arguments)
    if (!chat::mentions_word(info.chat_template, name)) {
      const std::string path = fmt::format("chat_template_kwargs.{:.40}", std::string_view(name));
      throw invalid_field(path + " is not read by this model's chat template", path, "unsupported_parameter");
    }
}

}  // namespace neutrino::server
