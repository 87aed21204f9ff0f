// neutrino node list|show: the machines that replicas run on.

#include "base/memory.h"
#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/terminal/words.h"
#include "cli/terminal/yaml.h"

namespace neutrino::cli {
namespace {

Cell phase_cell(const json::value& node) {
  const std::string phase = text_at(node, "phase");
  return {phase, phase == "ready" ? Style::good : Style::bad};
}

std::string memory_text(const json::value& node) {
  return fmt::format("{} of {}", size_text(integer_at(node, "memory_available_bytes")),
                     size_text(integer_at(node, "memory_bytes")));
}

std::string bandwidth_text(const json::value& node) {
  const int64_t bytes = integer_at(node, "memory_bytes_per_second");
  return bytes > 0 ? size_text(bytes) + "/s" : "-";
}

int run_list(Cloud& cloud) {
  return show_list(
      cloud, {.path = "/nodes",
              .columns = {text_column("NODE", "name"),
                          text_column("GROUP", "node_group"),
                          {"PHASE", phase_cell},
                          text_column("CORES", "cores"),
                          {"MEMORY FREE", [](const json::value& item) { return Cell{memory_text(item)}; }},
                          {"BANDWIDTH", [](const json::value& item) { return Cell{bandwidth_text(item)}; }},
                          text_column("KERNELS", "kernel_table"),
                          age_column("SEEN", "seen_ms")},
              .empty = "no node has been seen yet"});
}

int run_show(Cloud& cloud, const std::string& name) {
  const json::value node = cloud.client.get(item_path("nodes", name));
  if (cloud.as_json) return print_json(node), 0;
  fmt::print("{}", harmless(to_yaml(node), Controls::lines));
  return 0;
}

}  // namespace

int run_node(int argc, char** argv) {
  CloudCommand command("node", "The machines that replicas run on.\nExample: neutrino node list");
  std::string name;
  command.verb("list", "all of them\nExample: neutrino node list --watch", Prints::list, run_list);
  command
      .verb("show", "one\nExample: neutrino node show local", Prints::data,
            [&](Cloud& cloud) { return run_show(cloud, name); })
      .add_option("NODE", name, "its name")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
