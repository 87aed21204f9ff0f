#include "cloud/model_need.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "cloud/provider.h"
#include "cloud/providers/local.h"

namespace neutrino::cloud {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(30);
constexpr size_t kOutputBytes = 1 << 20;
// Beside what is counted: the program itself, requests being read, answers being written.
constexpr int64_t kRoomBytes = 192 << 20;

struct Pipe {
  FileDescriptor read, write;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw system_error("make", "a pipe");
    read = FileDescriptor(ends[0]);
    write = FileDescriptor(ends[1]);
  }
};

// Appends what comes; false at the end.
bool read_some(const FileDescriptor& from, std::string& text) {
  char bytes[4096];
  const ssize_t got = ::read(from.get(), bytes, sizeof bytes);
  if (got <= 0) return false;
  if (text.size() < kOutputBytes) text.append(bytes, static_cast<size_t>(got));
  return true;
}

// False: time was up.
bool read_both(const Pipe& out, const Pipe& err, std::string& output, std::string& errors) {
  const auto until = Clock::now() + kPatience;
  bool out_open = true, err_open = true;
  while (out_open || err_open) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd ends[] = {{out_open ? out.read.get() : -1, POLLIN, 0},
                     {err_open ? err.read.get() : -1, POLLIN, 0}};
    if (left <= 0 || ::poll(ends, 2, static_cast<int>(left)) == 0) return false;
    if (ends[0].revents != 0) out_open = read_some(out.read, output);
    if (ends[1].revents != 0) err_open = read_some(err.read, errors);
  }
  return true;
}

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  text.erase(0, text.rfind('\n') + 1);
  constexpr std::string_view kProgram = "neutrino: ";  // how every error begins that it prints
  return text.starts_with(kProgram) ? text.substr(kProgram.size()) : text;
}

std::string value_of(const std::vector<std::string>& arguments, const std::string& flag) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == flag && i + 1 < arguments.size()) return arguments[i + 1];
    if (arguments[i].starts_with(flag + "=")) return arguments[i].substr(flag.size() + 1);
  }
  return {};
}

}  // namespace

int64_t memory_of_profiles(const std::string& profiles, const std::vector<std::string>& arguments) {
  const std::string kv_type = value_of(arguments, "--kv-type");
  const bool exact = std::ranges::find(arguments, "--exact") != arguments.end();
  const std::string ending = exact ? "-exact" : "-kv_" + (kv_type.empty() ? std::string("bf16") : kv_type);
  const json::value parsed = parse_json(profiles);
  for (const json::value& profile : parsed.as_array()) {
    const json::object& row = profile.as_object();
    if (!std::string_view(row.at("profile").as_string()).ends_with(ending)) continue;
    if (const json::value* reason = row.if_contains("reason"))
      throw Error(ErrorCode::invalid_argument, std::string(reason->as_string()));
    return row.at("requires_bytes").to_number<int64_t>() + kRoomBytes;
  }
  throw make_error(ErrorCode::invalid_argument, "the model has no profile that ends with {}", ending);
}

int64_t predict_memory(const ServeProgram& program, const std::string& model,
                       const std::vector<std::string>& arguments) {
  Pipe out, err;
  SpawnOptions options{.argv = program.command, .environment = harmless_environment()};
  std::ranges::replace(options.argv, kOwnProgram, own_program());
  options.argv.push_back(model);
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.argv.insert(options.argv.end(), {"--list-profiles", "--json"});
  options.output = out.write.get();
  options.error = err.write.get();
  const ProcessIdentity process = spawn(options);
  out.write = {};
  err.write = {};
  std::string output, errors;
  const bool in_time = read_both(out, err, output, errors);
  if (!in_time) signal_group(process, SIGKILL);
  const ExitStatus status = wait_for(process.pid);
  if (!in_time)
    throw make_error(ErrorCode::unavailable, "how much memory {} needs was not known within {} s", model,
                     kPatience.count());
  if (status.code != 0 || status.signal != 0) throw Error(ErrorCode::invalid_argument, last_line(errors));
  return memory_of_profiles(output, arguments);
}

}  // namespace neutrino::cloud
