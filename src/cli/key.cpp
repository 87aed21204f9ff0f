// neutrino key create|list|show|revoke|rm: API keys, what programs call with.

#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/terminal/words.h"
#include "cli/terminal/yaml.h"

namespace neutrino::cli {
namespace {

struct KeyOptions {
  std::string name, api_role, member, expires;
  std::vector<std::string> names, models, addresses;
  int64_t requests_per_minute = 0, tokens_per_minute = 0, concurrency = 0;
  bool no_inference = false, platform = false;
};

Cell state_cell(const json::value& key) {
  const int64_t expires_ms = integer_at(key, "expires_ms");
  if (integer_at(key, "revoked_ms") > 0) return {"revoked", Style::bad};
  if (expires_ms > 0 && expires_ms <= now_ms()) return {"expired", Style::bad};
  return {"good", Style::good};
}

std::string use_text(const json::value& key) {
  std::string text = flag_at(key, "inference") ? "inference" : "";
  const std::string role = text_at(key, "api_role");
  if (!role.empty()) text += (text.empty() ? "" : ", ") + ("API as " + role);
  return text.empty() ? "nothing" : text;
}

int run_list(Cloud& cloud) {
  const auto or_dash = [](std::string text) { return Cell{text.empty() ? "-" : std::move(text)}; };
  return show_list(
      cloud, {.path = "/keys",
              .columns = {text_column("NAME", "name"),
                          text_column("KEY", "prefix"),
                          {"STATE", state_cell},
                          {"MAY", [](const json::value& item) { return Cell{use_text(item)}; }},
                          {"ENDPOINTS",
                           [](const json::value& item) {
                             const std::string models = list_at(item, "models");
                             return Cell{models.empty() ? "all" : models};
                           }},
                          {"MEMBER",
                           [or_dash](const json::value& item) { return or_dash(text_at(item, "member")); }},
                          age_column("EXPIRES", "expires_ms"),
                          age_column("MADE", "created_ms")},
              .empty = "no keys: `neutrino key create NAME` makes one",
              .kinds = {"key"},
              .arrange = [&cloud](json::array& keys) {
                if (!cloud.as_json) put_names(cloud.client, keys, "member", "/members", "email");
              }});
}

json::object limits_of(const KeyOptions& options) {
  json::object limits;
  if (options.requests_per_minute > 0) limits["requests_per_minute"] = options.requests_per_minute;
  if (options.tokens_per_minute > 0) limits["tokens_per_minute"] = options.tokens_per_minute;
  if (options.concurrency > 0) limits["concurrency"] = options.concurrency;
  if (!options.addresses.empty())
    limits["addresses"] = json::array(options.addresses.begin(), options.addresses.end());
  return limits;
}

json::object body_of(Cloud& cloud, const KeyOptions& options) {
  json::object body{{"name", options.name}};
  if (options.no_inference) body["inference"] = false;
  if (options.platform) body["platform"] = true;
  if (!options.api_role.empty()) body["api_role"] = options.api_role;
  if (!options.member.empty())
    body["member"] = text_at(cloud.client.get(item_path("members", options.member)), "id");
  if (!options.models.empty()) body["models"] = json::array(options.models.begin(), options.models.end());
  if (!options.expires.empty()) body["expires_ms"] = now_ms() + parse_duration("--expires", options.expires);
  if (json::object limits = limits_of(options); !limits.empty()) body["limits"] = std::move(limits);
  return body;
}

// The key alone on standard output, so that a script can keep it; it is not to be had again.
int run_create(Cloud& cloud, const KeyOptions& options) {
  const json::value made = cloud.client.write("POST", "/keys", body_of(cloud, options));
  if (cloud.as_json) return print_json(made), 0;
  fmt::print("{}\n", harmless(text_at(made, "key")));
  std::fflush(stdout);
  fmt::print(stderr, "key {} is made; this is the only time that it is shown\n", options.name);
  return 0;
}

int run_show(Cloud& cloud, const KeyOptions& options) {
  const json::value key = cloud.client.get(item_path("keys", options.name));
  if (cloud.as_json) return print_json(key), 0;
  fmt::print("{}", harmless(to_yaml(key), Controls::lines));
  return 0;
}

int run_revoke(Cloud& cloud, const KeyOptions& options) {
  return say(cloud, cloud.client.write("POST", item_path("keys", options.name) + "/revoke"),
             fmt::format("key {} is revoked: within a second nothing answers to it", options.name));
}

}  // namespace

int run_key(int argc, char** argv) {
  CloudCommand command("key",
                       "API keys: what programs call endpoints and this API with.\nExample: neutrino key "
                       "create ci --models chat --expires 90d");
  KeyOptions options;
  const auto verb = [&](const char* name, const char* help,
                        int (*run)(Cloud&, const KeyOptions&)) -> CLI::App& {
    CLI::App& app =
        command.verb(name, help, Prints::data, [&options, run](Cloud& cloud) { return run(cloud, options); });
    app.add_option("NAME", options.name, "the key's name")->required();
    return app;
  };
  CLI::App& create = verb("create",
                          "make one and print it, this once\nExample: neutrino key create ci --models chat "
                          "--requests-per-minute 60",
                          run_create);
  create.add_option("--models", options.models, "endpoints that it may call, as chat,code (default: all)")
      ->delimiter(',');
  create.add_option("--api-role", options.api_role, "may also use this API, as viewer, user or admin")
      ->check(CLI::IsMember({"viewer", "user", "admin"}));
  create.add_flag("--no-inference", options.no_inference, "may not call endpoints");
  create.add_flag("--platform", options.platform, "may manage what belongs to no workspace");
  create.add_option("--member", options.member, "whose it is, by address (default: the workspace's own)");
  create.add_option("--expires", options.expires, "in how long, as 90d (default: never)");
  create.add_option("--requests-per-minute", options.requests_per_minute, "0: no limit")
      ->check(CLI::NonNegativeNumber);
  create.add_option("--tokens-per-minute", options.tokens_per_minute, "0: no limit")
      ->check(CLI::NonNegativeNumber);
  create.add_option("--concurrency", options.concurrency, "requests at once; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  create.add_option("--address", options.addresses, "who may use it, as 10.0.0.0/8 (repeatable)")
      ->expected(1)
      ->take_all();
  command.verb("list", "all that you may see\nExample: neutrino key list", Prints::list, run_list);
  verb("show", "one, without the key itself\nExample: neutrino key show ci", run_show);
  verb("revoke", "end its use, keep its records\nExample: neutrino key revoke ci", run_revoke);
  command
      .verb("rm", "remove some\nExample: neutrino key rm ci", Prints::nothing,
            [&](Cloud& cloud) { return remove_items(cloud, "keys", "key", options.names); })
      .add_option("NAME", options.names, "names or ids")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
