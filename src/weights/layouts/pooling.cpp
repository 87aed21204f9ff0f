#include "weights/layouts/pooling.h"

#include "base/error.h"

namespace neutrino::weights {
namespace {

// The fields of 1_Pooling/config.json, and GGUF's number for what each asks for; the others must be false.
constexpr std::pair<std::string_view, int64_t> kModes[] = {
    {"pooling_mode_mean_tokens", 1}, {"pooling_mode_cls_token", 2}, {"pooling_mode_lasttoken", 3}};

bool flag(const json::object& config, std::string_view field) {
  const json::value* value = config.if_contains(field);
  return value && value->is_bool() && value->get_bool();
}

int64_t pooling_type(const json::object& config) {
  int64_t type = 0, asked = 0;
  for (const auto& [field, value] : config) {
    if (!field.starts_with("pooling_mode_") || !flag(config, field)) continue;
    ++asked;
    for (const auto& [mode, number] : kModes)
      if (mode == field) type = number;
  }
  if (const json::value* mode = config.if_contains("pooling_mode"); asked == 0 && mode && mode->is_string()) {
    const std::string_view name = mode->get_string();
    asked = 1;
    type = name == "mean" ? 1 : name == "cls" ? 2 : name == "lasttoken" ? 3 : 0;
  }
  if (asked == 1 && type > 0) return type;
  throw Error(
      ErrorCode::unimplemented,
      "the checkpoint's pooling must be one of mean_tokens, cls_token and lasttoken: " + to_text(config));
}

}  // namespace

bool set_pooling(Layout& layout) {
  const json::value* modules = layout.config().if_contains("sentence_transformers");
  if (!modules || !modules->is_array()) return false;
  for (const json::value& module : modules->get_array()) {
    if (!module.is_object()) continue;
    const json::value* type = module.get_object().if_contains("type");
    const json::value* config = module.get_object().if_contains("config");
    if (!type || !type->is_string() || !type->get_string().ends_with("Pooling") || !config ||
        !config->is_object())
      continue;
    layout.set("pooling_type", pooling_type(config->get_object()));
    return true;
  }
  return false;
}

}  // namespace neutrino::weights
