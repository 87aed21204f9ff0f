// neutrino workspace create|list|use|rename|rm: tenants.

#include "cli/cloud_command.h"
#include "cli/command.h"

namespace neutrino::cli {
namespace {

struct WorkspaceOptions {
  std::string name, new_name;
  std::vector<std::string> names;
};

int run_create(Cloud& cloud, const WorkspaceOptions& options) {
  return say(cloud, cloud.client.write("POST", "/workspaces", {{"name", options.name}}),
             fmt::format("workspace {} is made", options.name));
}

int run_rename(Cloud& cloud, const WorkspaceOptions& options) {
  return say(cloud,
             cloud.client.write("PATCH", item_path("workspaces", options.name), {{"name", options.new_name}}),
             fmt::format("workspace {} is called {} now", options.name, options.new_name));
}

// From now on commands are about this one.
int run_use(Cloud& cloud, const WorkspaceOptions& options) {
  Contexts contexts = load_contexts(contexts_path());
  Context* const context = contexts.find(cloud.client.context().name);
  if (!context)
    throw make_error(ErrorCode::failed_precondition, "nobody has signed in here: `neutrino login` does");
  const json::value workspace = cloud.client.get(item_path("workspaces", options.name));
  context->workspace = text_at(workspace, "name");
  save_contexts(contexts, contexts_path());
  return say(cloud, workspace, fmt::format("commands are about the workspace {} now", options.name));
}

int run_list(Cloud& cloud) {
  const std::string current = cloud.client.context().workspace;
  return show_list(
      cloud, {.path = "/workspaces",
              .columns = {{"",
                           [current](const json::value& item) {
                             return Cell{text_at(item, "name") == current || text_at(item, "id") == current
                                             ? "*"
                                             : ""};
                           }},
                          text_column("NAME", "name"),
                          text_column("ID", "id"),
                          age_column("MADE", "created_ms")},
              .empty = "no workspaces",
              .kinds = {"workspace"}});
}

}  // namespace

int run_workspace(int argc, char** argv) {
  CloudCommand command(
      "workspace",
      "Tenants: what belongs to one is not there for another.\nExample: neutrino workspace use research");
  WorkspaceOptions options;
  const auto one = [&](const char* name, const char* help,
                       int (*run)(Cloud&, const WorkspaceOptions&)) -> CLI::App& {
    CLI::App& app =
        command.verb(name, help, Prints::data, [&options, run](Cloud& cloud) { return run(cloud, options); });
    app.add_option("NAME", options.name, "its name")->required();
    return app;
  };
  one("create", "make one\nExample: neutrino workspace create research", run_create);
  command.verb("list", "yours\nExample: neutrino workspace list", Prints::list, run_list);
  one("use", "make it the one that commands are about\nExample: neutrino workspace use research", run_use);
  one("rename", "give it another name\nExample: neutrino workspace rename research lab", run_rename)
      .add_option("NEW", options.new_name, "its new name")
      ->required();
  command
      .verb("rm", "remove some that are empty\nExample: neutrino workspace rm research", Prints::nothing,
            [&](Cloud& cloud) { return remove_items(cloud, "workspaces", "workspace", options.names); })
      .add_option("NAME", options.names, "names or ids")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
