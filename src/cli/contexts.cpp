#include "cli/contexts.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "cli/cloud_home.h"
#include "net/url.h"

namespace neutrino::cli {
namespace {

constexpr size_t kFileBytes = 1 << 20;

std::string setting(const std::string& flag, const char* variable) {
  if (!flag.empty()) return flag;
  const char* value = std::getenv(variable);
  return value ? value : "";
}

bool same_server(const std::string& left, const std::string& right) {
  return net::Url::parse(left).origin() == net::Url::parse(right).origin();
}

Context find_context(const ConnectionOptions& options, Contexts& contexts, const std::string& server) {
  if (!options.context.empty()) {
    const Context* named = contexts.find(options.context);
    if (!named)
      throw make_error(ErrorCode::not_found, "there is no context \"{}\": `neutrino login` makes one",
                       options.context);
    if (!server.empty() && !same_server(named->server, server))
      throw make_error(ErrorCode::invalid_argument, "the context \"{}\" is of {}, not of {}", named->name,
                       named->server, server);
    return *named;
  }
  const Context* current = contexts.find(contexts.current);
  if (current && (server.empty() || same_server(current->server, server))) return *current;
  for (const Context& context : contexts.contexts)
    if (!server.empty() && same_server(context.server, server)) return context;
  return {.server = server.empty() ? local_server() : server};
}

}  // namespace

Context* Contexts::find(std::string_view name) {
  const auto found =
      std::find_if(contexts.begin(), contexts.end(), [&](const Context& c) { return c.name == name; });
  return found == contexts.end() ? nullptr : &*found;
}

void Contexts::put(Context context) {
  current = context.name;
  if (Context* there = find(context.name))
    *there = std::move(context);
  else
    contexts.push_back(std::move(context));
}

bool Contexts::remove(std::string_view name) {
  if (current == name) current.clear();
  return std::erase_if(contexts, [&](const Context& context) { return context.name == name; }) > 0;
}

std::string local_server() {
  try {
    return std::string(parse_json(read_file(addresses_file(), kFileBytes)).at("api").as_string());
  } catch (const std::exception&) {
    return "http://127.0.0.1:8001";
  }
}

std::filesystem::path contexts_path() { return cloud_folder() / "contexts.json"; }

Contexts load_contexts(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  if ((status.st_mode & 077) != 0)
    throw make_error(ErrorCode::failed_precondition, "{} holds tokens and others can read it: `chmod 600 {}`",
                     path.string(), path.string());
  Contexts contexts;
  read_json(contexts, parse_json(read_file(path, kFileBytes)), Accept::from_storage);
  return contexts;
}

void save_contexts(const Contexts& contexts, const std::filesystem::path& path) {
  std::filesystem::create_directories(path.parent_path());
  write_file_atomic(path, to_text(json::value(to_json(contexts))) + "\n", 0600);
}

Context choose_context(const ConnectionOptions& options, Contexts contexts) {
  const std::string server = setting(options.server, "NEUTRINO_SERVER");
  Context context = find_context(options, contexts, server);
  if (!server.empty()) context.server = server;
  if (const std::string token = setting(options.token, "NEUTRINO_TOKEN"); !token.empty()) {
    context = {
        .name = context.name, .server = context.server, .token = token};  // nothing else of another sign-in
  }
  if (const std::string workspace = setting(options.workspace, "NEUTRINO_WORKSPACE"); !workspace.empty())
    context.workspace = workspace;
  return context;
}

}  // namespace neutrino::cli
