#include "cli/endpoint_view.h"

#include <cstdio>

#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

Style style_of_state(std::string_view state) {
  if (state == "Ready" || state == "ready") return Style::good;
  if (state == "Failed" || state == "NoCapacity") return Style::bad;
  if (state == "Degraded" || state == "Starting" || state == "not_ready" || state == "unknown")
    return Style::warning;
  return Style::dim;
}

std::string models_text(const json::value& endpoint) {
  std::string text;
  const json::value& deployments = at(endpoint, "deployments");
  if (!deployments.is_array()) return text;
  for (const json::value& deployment : deployments.get_array()) {
    const std::string model = text_at(deployment, "model");
    text += (text.empty() ? "" : ", ") + (model.empty() ? list_at(deployment, "command", " ") : model);
  }
  return text;
}

std::string replicas_text(const json::value& item) {
  return fmt::format("{}/{}", integer_at(item, "ready"), integer_at(item, "replicas"));
}

ListColumn state_column(std::string path) {
  return {.title = "STATE", .cell = [path = std::move(path)](const json::value& item) {
            const std::string state = text_at(item, path);
            return Cell{state, style_of_state(state)};
          }};
}

}  // namespace

std::vector<ListColumn> endpoint_columns() {
  return {text_column("NAME", "name"),
          state_column("status.state"),
          {"REPLICAS", [](const json::value& item) { return Cell{replicas_text(at(item, "status"))}; }},
          {"MODEL", [](const json::value& item) { return Cell{models_text(item)}; }},
          {"SCALE",
           [](const json::value& item) {
             return Cell{fmt::format("{}-{}", integer_at(item, "scaling.replicas_min"),
                                     integer_at(item, "scaling.replicas_max"))};
           }},
          age_column("MADE", "created_ms"),
          text_column("MESSAGE", "status.message")};
}

std::vector<ListColumn> deployment_columns() {
  return {text_column("DEPLOYMENT", "name"),
          text_column("REVISION", "revision"),
          {"READY", [](const json::value& item) { return Cell{replicas_text(item)}; }},
          text_column("UPDATED", "updated"),
          text_column("MESSAGE", "message")};
}

std::vector<ListColumn> replica_columns() {
  return {text_column("REPLICA", "id"),
          state_column("state"),
          text_column("REVISION", "revision"),
          {"STARTS", [](const json::value& item) { return Cell{text_at(item, "generation")}; }},
          text_column("NODE", "node"),
          age_column("MADE", "created_ms"),
          {"MESSAGE", [](const json::value& item) {
             const std::string reason = text_at(item, "reason"), message = text_at(item, "message");
             return Cell{reason.empty() || message.empty() ? reason + message : reason + ": " + message};
           }}};
}

void print_table(const Cloud& cloud, const std::vector<ListColumn>& columns, const json::value& items) {
  if (!items.is_array() || items.get_array().empty()) return;
  std::fputs(("\n" + list_text(items.get_array(), columns, cloud.screen)).c_str(), stdout);
}

void print_endpoint(const Cloud& cloud, const json::value& endpoint) {
  const std::string state = text_at(endpoint, "status.state"), message = text_at(endpoint, "status.message");
  const auto line = [&](std::string_view title, const std::string& text) {
    if (!text.empty()) fmt::print("{:<10} {}\n", title, harmless(text));
  };
  line("endpoint", fmt::format("{} ({})", text_at(endpoint, "name"), text_at(endpoint, "id")));
  fmt::print("{:<10} {}{}\n", "state", styled(state, style_of_state(state), cloud.screen),
             message.empty() ? "" : ": " + harmless(message));
  line("model", models_text(endpoint));
  line("aliases", list_at(endpoint, "aliases"));
  line("policy", text_at(endpoint, "policy"));
  line("replicas", fmt::format("{} ready, {} to {} by traffic", integer_at(endpoint, "status.ready"),
                               integer_at(endpoint, "scaling.replicas_min"),
                               integer_at(endpoint, "scaling.replicas_max")));
  line("made", time_text(integer_at(endpoint, "created_ms"), now_ms()));
}

std::vector<ListColumn> revision_columns() {
  return {text_column("DEPLOYMENT", "deployment"),
          text_column("REVISION", "revision"),
          {"MODEL",
           [](const json::value& item) {
             const std::string model = text_at(item, "spec.model");
             return Cell{model.empty() ? list_at(item, "spec.command", " ") : model};
           }},
          {"ARGUMENTS", [](const json::value& item) { return Cell{list_at(item, "spec.arguments", " ")}; }},
          text_column("AUTHOR", "author"),
          age_column("MADE", "created_ms")};
}

}  // namespace neutrino::cli
