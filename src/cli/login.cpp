// neutrino login, logout, whoami: who this terminal is to which control plane.

#include <chrono>
#include <optional>

#include "base/file.h"
#include "cli/cloud_command.h"
#include "cli/cloud_home.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/terminal/browser.h"
#include "cli/terminal/prompt.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

constexpr size_t kKeyBytes = 4096;
constexpr std::chrono::seconds kBrowserTimeout{600};

struct LoginOptions {
  std::string server = local_server(), one_time_key, token, name, workspace;
};

// "-": not on a command line, where others could read it.
std::string given_or_typed(const std::string& given, std::string_view prompt) {
  return given == "-" ? read_secret(prompt, kKeyBytes) : given;
}

// Short names for what people type: "localhost", "cloud.example.org".
std::string name_of(const LoginOptions& options) {
  if (!options.name.empty()) return options.name;
  const net::Url url = net::Url::parse(options.server);
  return url.is_loopback() ? "local" : url.host();
}

std::filesystem::path local_key_file() { return cloud_folder() / "one-time-key"; }

// What a control plane of this machine wrote at its first start, until somebody has used it.
std::string local_one_time_key(const Context& context) {
  const std::filesystem::path file = local_key_file();
  if (!net::Url::parse(context.server).is_loopback() || !std::filesystem::exists(file)) return "";
  std::string key = read_file(file, kKeyBytes);
  while (key.ends_with('\n')) key.pop_back();
  return key;
}

// A control plane without a provider says so; one that has a provider has no use for port 0, and nothing is begun.
void check_has_provider(const Context& context) {
  try {
    CloudClient(context).get("/login/oidc", {{"port", "0"}});
  } catch (const Error& error) {
    if (error.code() == ErrorCode::invalid_argument) return;
    if (error.code() != ErrorCode::not_found) throw;
    throw make_error(ErrorCode::failed_precondition,
                     "{} has no sign-in by browser: give --one-time-key or --token (`neutrino up "
                     "--new-admin-key` makes a key)",
                     context.server);
  }
}

// A one-time code, which comes back to this process by way of the browser.
std::string code_from_browser(const Context& context) {
  check_has_provider(context);
  CodeListener listener;
  const std::string url =
      fmt::format("{}/api/v1/login/oidc?port={}&state={}", context.server, listener.port(), listener.state());
  fmt::print(stderr, "sign in with a browser on this machine:\n  {}\n", url);
  open_browser(url);
  return listener.wait(kBrowserTimeout);
}

json::value use_one_time_key(const Context& context, const std::string& key) {
  return CloudClient(context).write("POST", "/login/one-time-key", {{"key", key}});
}

// The key of this machine is tried, and forgotten once it was used: by us, or by somebody before.
std::optional<json::value> session_of_this_machine(const Context& context) {
  const std::string key = local_one_time_key(context);
  if (key.empty()) return std::nullopt;
  std::optional<json::value> session;
  try {
    session = use_one_time_key(context, key);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unauthenticated) throw;
  }
  std::filesystem::remove(local_key_file());
  return session;
}

json::value begin_session(const LoginOptions& options, const Context& context) {
  if (!options.one_time_key.empty())
    return use_one_time_key(context, given_or_typed(options.one_time_key, "the one-time key"));
  if (auto session = session_of_this_machine(context)) return *std::move(session);
  return use_one_time_key(context, code_from_browser(context));
}

Context sign_in(const LoginOptions& options) {
  Context context{.name = name_of(options), .server = options.server, .workspace = options.workspace};
  while (context.server.ends_with('/')) context.server.pop_back();
  if (!options.token.empty()) {
    context.token = given_or_typed(options.token, "the token");
    return context;
  }
  const json::value session = begin_session(options, context);
  context.token = text_at(session, "token");
  context.email = text_at(session, "email");
  context.expires_ms = integer_at(session, "expires_ms");
  return context;
}

int log_in(const LoginOptions& options) {
  Context context = sign_in(options);
  CloudClient(context).get("/me");  // whatever it was, it is good
  Contexts contexts = load_contexts(contexts_path());
  fmt::print(
      "signed in to {}{}{}, as context {}\n", context.server,
      context.email.empty() ? "" : " as " + harmless(context.email),
      context.expires_ms > 0 ? fmt::format(" for {}", duration_text(context.expires_ms - now_ms())) : "",
      context.name);
  contexts.put(std::move(context));
  save_contexts(contexts, contexts_path());
  return 0;
}

int log_out(Cloud& cloud) {
  const std::string name = cloud.client.context().name;
  if (name.empty())
    throw make_error(ErrorCode::failed_precondition, "nobody is signed in to {}",
                     cloud.client.context().server);
  try {
    cloud.client.write("POST", "/logout");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unauthenticated)
      fmt::print(stderr, "note: the control plane was not told: {}\n", error.what());
  }
  Contexts contexts = load_contexts(contexts_path());
  contexts.remove(name);
  save_contexts(contexts, contexts_path());
  fmt::print("signed out of {}\n", cloud.client.context().server);
  return 0;
}

int show_me(Cloud& cloud) {
  const json::value me = cloud.client.get("/me");
  if (cloud.as_json) return print_json(me), 0;
  const auto line = [](std::string_view title, const std::string& text) {
    if (!text.empty()) fmt::print("{:<11} {}\n", title, harmless(text));
  };
  const Context& context = cloud.client.context();
  line("server", context.server);
  line("context", context.name);
  line("signed in", text_at(me, "actor"));
  line("workspace", text_at(me, "workspace.name"));
  line("role", text_at(me, "role") + (flag_at(me, "platform") ? ", and the platform's" : ""));
  if (context.expires_ms > 0) line("until", time_text(context.expires_ms, now_ms()));
  return 0;
}

}  // namespace

int run_login(int argc, char** argv) {
  CLI::App app(
      "Sign in to a control plane and keep the sign-in, so that other commands know whom to ask.\n"
      "Example: neutrino login http://127.0.0.1:8001 --one-time-key no-...",
      "neutrino login");
  LoginOptions options;
  app.add_option("SERVER", options.server, "its URL")->capture_default_str();
  CLI::Option* key = app.add_option(
      "--one-time-key", options.one_time_key,
      "the key that `neutrino up` printed at its first start; -: typed, or from standard input");
  app.add_option("--token", options.token, "an API key to use as it is; -: typed, or from standard input")
      ->excludes(key);
  app.add_option("--workspace", options.workspace,
                 "which one commands are about (default: the server's choice)");
  app.add_option("--name", options.name, "of the context that is kept (default: the host's, or local)");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  return log_in(options);
}

int run_logout(int argc, char** argv) {
  CloudCommand command("logout", "End a sign-in, here and at the control plane.\nExample: neutrino logout");
  command.alone(Prints::nothing, log_out);
  return command.run(argc, argv);
}

int run_whoami(int argc, char** argv) {
  CloudCommand command("whoami",
                       "Who is signed in where, and what they may do.\nExample: neutrino whoami --json");
  command.alone(Prints::data, show_me);
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
