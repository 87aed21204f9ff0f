// The architectures of Hugging Face checkpoints that are read, and the function that maps each: one line for a new one.
#include "weights/layouts/layout.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

struct KnownLayout {
  std::string_view architecture;  // config.json: architectures[0]
  std::string_view model_type;    // config.json, where architectures is missing or not listed here
  MapFunction map;
};

constexpr KnownLayout kLayouts[] = {
    {"LlamaForCausalLM", "llama", map_llama},
    {"MistralForCausalLM", "mistral", map_llama},
};

std::string_view text_at(const json::object& config, std::string_view name) {
  const json::value* value = config.if_contains(name);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

std::string_view architecture_of(const json::object& config) {
  const json::value* list = config.if_contains("architectures");
  if (!list || !list->is_array() || list->get_array().empty()) return {};
  const json::value& first = list->get_array().front();
  return first.is_string() ? std::string_view(first.get_string()) : std::string_view();
}

// Of the language model, where a model sees as well.
std::string_view text_model_type(const json::object& config) {
  const json::value* text = config.if_contains("text_config");
  return text && text->is_object() ? text_at(text->get_object(), "model_type") : std::string_view();
}

}  // namespace

MapFunction find_layout(const json::object& config) {
  const std::string_view architecture = architecture_of(config), type = text_at(config, "model_type");
  for (const KnownLayout& known : kLayouts)
    if (!architecture.empty() && known.architecture == architecture) return known.map;
  for (const std::string_view wanted : {type, text_model_type(config)})
    for (const KnownLayout& known : kLayouts)
      if (!wanted.empty() && known.model_type == wanted) return known.map;
  std::string names;
  for (const KnownLayout& known : kLayouts)
    names += (names.empty() ? "" : ", ") + std::string(known.architecture);
  throw make_error(ErrorCode::unimplemented,
                   "config.json: architecture {} (model_type {}) is not known; known are {}",
                   in_quotes(architecture), in_quotes(type), names)
      .with_reason("architecture");
}

}  // namespace neutrino::weights
