// Which control planes this person has signed in to: $NEUTRINO_HOME/cloud/contexts.json, readable by them alone.
//
// A token belongs to the server that gave it and is never sent to another one, whatever the flags say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/fields.h"

namespace neutrino::cli {

struct Context {
  std::string name;
  std::string server;  // "http://127.0.0.1:8001"
  std::string token;
  std::string workspace;   // chosen at login; empty: the server's choice
  std::string email;       // of a session
  int64_t expires_ms = 0;  // Unix time; 0: not known
  static constexpr auto fields() {
    using C = Context;
    return std::tuple(field("name", &C::name), field("server", &C::server), field("token", &C::token),
                      field("workspace", &C::workspace), field("email", &C::email),
                      field("expires_ms", &C::expires_ms));
  }
};

struct Contexts {
  std::string current;  // a name; empty: none
  std::vector<Context> contexts;
  static constexpr auto fields() {
    return std::tuple(field("current", &Contexts::current), field("contexts", &Contexts::contexts));
  }

  Context* find(std::string_view name);
  void put(Context context);           // in place of the one with its name; it becomes the current one
  bool remove(std::string_view name);  // false: there was none
};

std::filesystem::path contexts_path();
// Empty where there is no file. Throws Error{failed_precondition} for one that others can read, and what reading and parsing throw.
Contexts load_contexts(const std::filesystem::path& path);
void save_contexts(const Contexts& contexts, const std::filesystem::path& path);

// Where the control plane of this machine is: as `neutrino up` noted, else where it listens unless told otherwise.
std::string local_server();

// What a command was told about whom to ask. Empty: not said.
struct ConnectionOptions {
  std::string server, token, workspace, context;
};

// Flags before NEUTRINO_SERVER, NEUTRINO_TOKEN and NEUTRINO_WORKSPACE before a context: the named one, else the current one if it is
// of the same server, else any of that server. Throws Error{not_found} for a context that is not there.
Context choose_context(const ConnectionOptions& options, Contexts contexts);

}  // namespace neutrino::cli
