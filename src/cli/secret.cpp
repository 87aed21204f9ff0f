// neutrino secret set|list|rm: values that deployments may have in their environment, and that nobody gets to see again.
//
// A value never stands on a command line, where other users of the machine could read it.

#include "base/file.h"
#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/terminal/prompt.h"

namespace neutrino::cli {
namespace {

constexpr size_t kSecretBytes = 64 << 10;

struct SecretOptions {
  std::string name, file;
  std::vector<std::string> names;
};

int run_set(Cloud& cloud, const SecretOptions& options) {
  const std::string value = options.file.empty() ? read_secret("the value of " + options.name, kSecretBytes)
                                                 : read_file(options.file, kSecretBytes);
  return say(cloud,
             cloud.client.write("PUT", item_path("secrets", options.name),
                                {{"name", options.name}, {"value", value}}),
             fmt::format("secret {} is set; replicas that start from now on get it", options.name));
}

int run_list(Cloud& cloud) {
  return show_list(cloud, {.path = "/secrets",
                           .columns = {text_column("NAME", "name"), age_column("MADE", "created_ms")},
                           .empty = "no secrets: `neutrino secret set NAME` makes one",
                           .kinds = {"secret"}});
}

}  // namespace

int run_secret(int argc, char** argv) {
  CloudCommand command("secret",
                       "Values for the environment of replicas, which nobody gets to see again.\n"
                       "Example: neutrino secret set hf-token < token.txt");
  SecretOptions options;
  CLI::App& set = command.verb("set",
                               "make or replace one; its value is typed, or comes from standard input\n"
                               "Example: neutrino secret set hf-token < token.txt",
                               Prints::data, [&](Cloud& cloud) { return run_set(cloud, options); });
  set.add_option("NAME", options.name, "its name")->required();
  set.add_option("--file", options.file, "a file with its value, to the last byte");
  command.verb("list", "their names\nExample: neutrino secret list", Prints::list, run_list);
  command
      .verb("rm", "remove some\nExample: neutrino secret rm hf-token", Prints::nothing,
            [&](Cloud& cloud) { return remove_items(cloud, "secrets", "secret", options.names); })
      .add_option("NAME", options.names, "names")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
