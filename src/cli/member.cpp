// neutrino member add|list|set-role|rm: who may use a workspace.

#include "cli/cloud_command.h"
#include "cli/command.h"

namespace neutrino::cli {
namespace {

struct MemberOptions {
  std::string email, role = "user";
  std::vector<std::string> emails;
  bool platform = false;
};

int run_add(Cloud& cloud, const MemberOptions& options) {
  json::object body{{"email", options.email}, {"role", options.role}};
  if (options.platform) body["platform"] = true;
  return say(cloud, cloud.client.write("POST", "/members", body),
             fmt::format("{} is a member, as {}", options.email, options.role));
}

int run_set_role(Cloud& cloud, const MemberOptions& options) {
  return say(cloud,
             cloud.client.write("PATCH", item_path("members", options.email), {{"role", options.role}}),
             fmt::format("{} is {} now", options.email, options.role));
}

int run_list(Cloud& cloud) {
  return show_list(
      cloud,
      {.path = "/members",
       .columns = {text_column("EMAIL", "email"),
                   text_column("ROLE", "role"),
                   {"PLATFORM",
                    [](const json::value& item) { return Cell{flag_at(item, "platform") ? "yes" : "-"}; }},
                   age_column("MADE", "created_ms")},
       .empty = "no members",
       .kinds = {"member"}});
}

}  // namespace

int run_member(int argc, char** argv) {
  CloudCommand command(
      "member",
      "Who may use the workspace, and as what.\nExample: neutrino member add ada@example.org --role admin");
  MemberOptions options;
  const auto one = [&](const char* name, const char* help,
                       int (*run)(Cloud&, const MemberOptions&)) -> CLI::App& {
    CLI::App& app =
        command.verb(name, help, Prints::data, [&options, run](Cloud& cloud) { return run(cloud, options); });
    app.add_option("EMAIL", options.email, "the member's address")->required();
    return app;
  };
  const auto roles = CLI::IsMember({"viewer", "user", "admin"});
  CLI::App& add =
      one("add", "make somebody a member\nExample: neutrino member add ada@example.org --role user", run_add);
  add.add_option("--role", options.role,
                 "viewer reads; user also has endpoints and keys; admin also members and budgets")
      ->check(roles)
      ->capture_default_str();
  add.add_flag("--platform", options.platform, "may manage workspaces, nodes, shapes and prices");
  command.verb("list", "all of them\nExample: neutrino member list", Prints::list, run_list);
  one("set-role", "change what somebody may do\nExample: neutrino member set-role ada@example.org admin",
      run_set_role)
      .add_option("ROLE", options.role, "viewer, user or admin")
      ->required()
      ->check(roles);
  command
      .verb("rm", "remove some\nExample: neutrino member rm ada@example.org", Prints::nothing,
            [&](Cloud& cloud) { return remove_items(cloud, "members", "member", options.emails); })
      .add_option("EMAIL", options.emails, "addresses")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
