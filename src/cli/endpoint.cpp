// neutrino endpoint create|list|show|update|scale|pause|resume|rollback|revisions|rm: models with a URL, from the terminal.

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>

#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/endpoint_changes.h"
#include "cli/endpoint_view.h"
#include "cli/terminal/diff.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

struct EndpointOptions {
  std::string name, deployment, timeout = "10m";
  std::vector<std::string> names;
  EndpointFlags flags;
  std::string replicas;
  int64_t revision = 0;
  bool wait = false, dry_run = false;
};

constexpr int64_t kWaitPollMilliseconds = 300;
constexpr std::string_view kCollection = "endpoints";

std::string path_of(const EndpointOptions& options, std::string_view action = "") {
  return item_path(kCollection, options.name) + std::string(action);
}

// ---- the verbs

int run_list(Cloud& cloud, const EndpointOptions&) {
  return show_list(cloud, {.path = "/endpoints",
                           .columns = endpoint_columns(),
                           .empty = "no endpoints: `neutrino endpoint create chat --model MODEL` makes one",
                           .kinds = {"endpoint", "deployment", "replica"}});
}

int run_show(Cloud& cloud, const EndpointOptions& options) {
  const json::value endpoint = cloud.client.get(path_of(options));
  if (cloud.as_json) return print_json(endpoint), 0;
  print_endpoint(cloud, endpoint);
  print_table(cloud, deployment_columns(), at(endpoint, "status.deployments"));
  print_table(cloud, replica_columns(),
              cloud.client.list("/replicas", {{"endpoint", text_at(endpoint, "id")}}).items);
  return 0;
}

// How many replicas its rows ask for at least; the controller may not have heard of it yet.
int64_t least_replicas(const json::value& endpoint) {
  int64_t fixed = 0;
  bool is_scaled = false;
  for (const json::value& deployment : at(endpoint, "deployments").as_array()) {
    is_scaled = is_scaled || at(deployment, "replicas").is_null();
    fixed += integer_at(deployment, "replicas");
  }
  const int64_t scaled =
      std::max(integer_at(endpoint, "scaling.replicas_min"), integer_at(endpoint, "scaled_to"));
  return fixed + (is_scaled ? scaled : 0);
}

bool is_settled(const json::value& endpoint) {
  const std::string state = text_at(endpoint, "status.state");
  if (flag_at(endpoint, "paused")) return state == "Paused";
  for (const json::value& deployment : at(endpoint, "status.deployments").as_array())
    if (integer_at(deployment, "updated") != integer_at(deployment, "replicas")) return false;
  return (state == "Ready" || state == "Idle") &&
         integer_at(endpoint, "status.ready") >= least_replicas(endpoint);
}

// Until it serves as it is wanted, or sleeps because nobody asks. Throws for what will not come by waiting.
json::value wait_until_settled(Cloud& cloud, const EndpointOptions& options) {
  const int64_t end_ms = now_ms() + parse_duration("--timeout", options.timeout);
  for (std::string told;;) {
    json::value endpoint = cloud.client.get(path_of(options));
    if (is_settled(endpoint)) return endpoint;
    const std::string state = text_at(endpoint, "status.state"),
                      message = text_at(endpoint, "status.message");
    const std::string now = message.empty() ? state : state + ": " + message;
    if (state == "Failed" || state == "NoCapacity" || now_ms() > end_ms)
      throw make_error(ErrorCode::unavailable, "endpoint {} is {}", options.name, now);
    if (now != told) fmt::print(stderr, "{}\n", harmless(told = now));
    std::this_thread::sleep_for(std::chrono::milliseconds(kWaitPollMilliseconds));
  }
}

// What a write did: one line, and with --wait the state that it led to.
int done(Cloud& cloud, const EndpointOptions& options, const json::value& answer, const std::string& line) {
  if (!options.wait || options.dry_run) return say(cloud, answer, line);
  if (!cloud.as_json) say(cloud, answer, line);
  const json::value endpoint = wait_until_settled(cloud, options);
  return say(cloud, endpoint, fmt::format("{} is {}", options.name, text_at(endpoint, "status.state")));
}

int run_create(Cloud& cloud, const EndpointOptions& options) {
  json::object body = endpoint_changes(options.flags, nullptr);
  body["name"] = options.name;
  const json::value answer = cloud.client.write("POST", "/endpoints", body, {.dry_run = options.dry_run});
  return done(
      cloud, options, answer,
      fmt::format("endpoint {} {}", options.name,
                  options.dry_run ? "would be made" : "is made: its name is the `model` of requests"));
}

int run_update(Cloud& cloud, const EndpointOptions& options) {
  const json::value current = cloud.client.get(path_of(options));
  const json::object changes = endpoint_changes(options.flags, current);
  if (changes.empty())
    throw make_error(ErrorCode::invalid_argument, "nothing to change: see `neutrino endpoint update --help`");
  const json::value answer = cloud.client.write(
      "PATCH", path_of(options), changes, {.dry_run = options.dry_run, .etag = integer_at(current, "etag")});
  if (!cloud.as_json) {
    json::object before = current.as_object(), after = answer.as_object();
    for (const char* ours : {"etag", "status"}) before.erase(ours), after.erase(ours);
    fmt::print("{}", text_of(differences(before, after), cloud.screen));
  }
  return done(cloud, options, answer,
              fmt::format("endpoint {} {}", options.name, options.dry_run ? "would be so" : "is changed"));
}

// "auto" gives the number back to the autoscaler before it takes it.
json::value replicas_of(const std::string& text) {
  if (text == "auto") return nullptr;
  int64_t replicas = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), replicas);
  if (error != std::errc() || end != text.data() + text.size() || replicas < 0)
    throw make_error(ErrorCode::invalid_argument, "REPLICAS must be a number or auto, got \"{}\"", text);
  return replicas;
}

// A number by hand is for deployments that have none of their own.
void check_is_scaled(Cloud& cloud, const EndpointOptions& options) {
  const json::value endpoint = cloud.client.get(path_of(options));
  for (const json::value& deployment : at(endpoint, "deployments").as_array())
    if (at(deployment, "replicas").is_null()) return;
  throw make_error(ErrorCode::failed_precondition,
                   "the deployments of {} have a fixed number of replicas: `neutrino endpoint update {} "
                   "--replicas {}` changes it",
                   options.name, options.name, options.replicas == "auto" ? "-1" : options.replicas);
}

int run_scale(Cloud& cloud, const EndpointOptions& options) {
  const json::value replicas = replicas_of(options.replicas);
  check_is_scaled(cloud, options);
  const json::value answer = cloud.client.write("POST", path_of(options, "/scale"), {{"replicas", replicas}});
  if (replicas.is_null())
    return done(cloud, options, answer, fmt::format("endpoint {} is scaled by its traffic", options.name));
  return done(cloud, options, answer,
              fmt::format("endpoint {} gets {} replica{}; the autoscaler leaves it so for {}", options.name,
                          options.replicas, options.replicas == "1" ? "" : "s",
                          duration_text(integer_at(answer, "scaling.operator_hold_s") * 1000)));
}

int run_pause(Cloud& cloud, const EndpointOptions& options) {
  return say(cloud, cloud.client.write("POST", path_of(options, "/pause")),
             fmt::format("endpoint {} is paused: no replicas, and requests are refused", options.name));
}

int run_resume(Cloud& cloud, const EndpointOptions& options) {
  return done(cloud, options, cloud.client.write("POST", path_of(options, "/resume")),
              fmt::format("endpoint {} is resumed", options.name));
}

int run_rollback(Cloud& cloud, const EndpointOptions& options) {
  json::object body;
  if (!options.deployment.empty()) body["deployment"] = options.deployment;
  if (options.revision > 0) body["revision"] = options.revision;
  return done(cloud, options, cloud.client.write("POST", path_of(options, "/rollback"), body),
              fmt::format("endpoint {} goes back to {}", options.name,
                          options.revision > 0 ? fmt::format("revision {}", options.revision)
                                               : "the revision before"));
}

int run_revisions(Cloud& cloud, const EndpointOptions& options) {
  return show_list(cloud, {.path = path_of(options, "/revisions"),
                           .columns = revision_columns(),
                           .empty = "no revisions",
                           .kinds = {"endpoint"}});
}

}  // namespace

int run_endpoint(int argc, char** argv) {
  CloudCommand command(
      "endpoint",
      "Models with a URL: made, changed, scaled and removed.\n"
      "Example: neutrino endpoint create chat --model smollm2-135m-instruct --replicas-max 2 --wait");
  EndpointOptions options;
  using Run = int (*)(Cloud&, const EndpointOptions&);
  const auto verb = [&](const char* name, const char* help, Prints prints, Run run) -> CLI::App& {
    return command.verb(name, help, prints, [&options, run](Cloud& cloud) { return run(cloud, options); });
  };
  const auto named = [&](CLI::App& app) -> CLI::App& {
    app.add_option("NAME", options.name, "the endpoint's name or id")->required();
    return app;
  };
  const auto waits = [&](CLI::App& app) {
    app.add_flag("--wait", options.wait, "until it serves, or sleeps");
    app.add_option("--timeout", options.timeout, "of --wait")->capture_default_str();
  };
  for (const bool is_new : {true, false}) {
    CLI::App& app =
        is_new
            ? named(verb("create",
                         "make one\nExample: neutrino endpoint create chat --model smollm2-135m-instruct "
                         "--replicas-min 1 --wait",
                         Prints::data, run_create))
            : named(verb(
                  "update",
                  "change what is said, leave the rest\nExample: neutrino endpoint update chat --deployment "
                  "canary --model gemma3 --weight 10",
                  Prints::data, run_update));
    add_endpoint_flags(app, options.flags);
    app.add_flag("--dry-run", options.dry_run, "say what would be, and change nothing");
    waits(app);
    if (!is_new)
      app.add_option("--remove-deployment", options.flags.removed_deployment, "take this one away");
  }
  verb("list", "all of the workspace\nExample: neutrino endpoint list --watch", Prints::list, run_list);
  named(verb("show", "one, with its deployments and replicas\nExample: neutrino endpoint show chat",
             Prints::data, run_show));
  CLI::App& scale =
      named(verb("scale", "set the number of replicas by hand\nExample: neutrino endpoint scale chat 2",
                 Prints::data, run_scale));
  scale.add_option("REPLICAS", options.replicas, "how many; auto: by traffic again")->required();
  waits(scale);
  named(verb("pause", "no replicas, refuse requests\nExample: neutrino endpoint pause chat", Prints::data,
             run_pause));
  waits(
      named(verb("resume", "end a pause\nExample: neutrino endpoint resume chat", Prints::data, run_resume)));
  CLI::App& rollback = named(
      verb("rollback", "back to a former revision\nExample: neutrino endpoint rollback chat --revision 2",
           Prints::data, run_rollback));
  rollback.add_option("--deployment", options.deployment, "which one (default: the only one)");
  rollback.add_option("--revision", options.revision, "which one (default: the one before)")
      ->check(CLI::PositiveNumber);
  waits(rollback);
  named(verb("revisions", "what its deployments were\nExample: neutrino endpoint revisions chat",
             Prints::list, run_revisions));
  command
      .verb("rm", "remove some, with their replicas\nExample: neutrino endpoint rm chat", Prints::nothing,
            [&](Cloud& cloud) { return remove_items(cloud, kCollection, "endpoint", options.names); })
      .add_option("NAME", options.names, "names or ids")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
