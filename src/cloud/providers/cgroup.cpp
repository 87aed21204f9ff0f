#include "cloud/providers/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kPeriodMicroseconds =
    100'000;  // in which a group gets its processor time; the kernel's default
constexpr int64_t kQuotaMicrosecondsMin = 1000;  // the kernel refuses less
constexpr std::string_view kOwnLeaf = "neutrino-main";

std::string read_or_empty(const fs::path& path) {
  try {
    return read_file(path, 1 << 20);
  } catch (const Error&) {
    return {};
  }
}

// 0, or errno.
int write_value(const fs::path& path, const std::string& value) {
  const FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), value.data(), value.size()) < 0) return errno;
  return 0;
}

std::string failure_text(const fs::path& path, int number) {
  return number == 0 ? std::string() : fmt::format("{}: {}", path.string(), std::strerror(number));
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    lines.push_back(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.size(), lines.back().size() + 1));
  }
  return lines;
}

int64_t number_behind(std::string_view text, std::string_view name) {
  for (std::string_view line : lines_of(text)) {
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != ' ') continue;
    int64_t number = 0;
    std::from_chars(line.data() + name.size() + 1, line.data() + line.size(), number);
    return number;
  }
  return 0;
}

bool has_word(std::string_view text, char separator, std::string_view word) {
  while (!text.empty()) {
    const std::string_view first = text.substr(0, text.find(separator));
    if (first == word) return true;
    text.remove_prefix(std::min(text.size(), first.size() + 1));
  }
  return false;
}

// Where the caller is in the hierarchies: one line each, "number:controllers:path".
struct Place {
  fs::path folder;  // of the hierarchy of a controller
  bool unified = false;
};

fs::path beneath(const fs::path& mount, std::string_view path) {
  const fs::path folder = mount / fs::path(path).relative_path();
  return fs::exists(folder) ? folder : mount;  // in a container the path may be the host's
}

std::optional<Place> find_place(std::string_view controller, const fs::path& root) {
  const fs::path mount = root / "sys/fs/cgroup";
  std::optional<Place> unified;
  const std::string text = read_or_empty(root / "proc/self/cgroup");
  for (std::string_view line : lines_of(text)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1),
                           path = line.substr(second + 1);
    if (has_word(controllers, ',', controller) && fs::exists(mount / controller))
      return Place{.folder = beneath(mount / controller, path)};
    if (!controllers.empty()) continue;
    const fs::path top = fs::exists(mount / "cgroup.controllers") ? mount : mount / "unified";
    const Place place{.folder = beneath(top, path), .unified = true};
    const std::string available = read_or_empty(place.folder / "cgroup.controllers");
    if (has_word(std::string_view(available).substr(0, available.find('\n')), ' ', controller))
      unified = place;
  }
  return unified;
}

// Version 2 gives controllers to children of a group only if no process is in it: the processes of this program, and no others,
// move into a leaf of their own.
void empty_group(const fs::path& folder, const fs::path& root) {
  std::error_code ignored;
  const fs::path program = fs::read_symlink(root / "proc/self/exe", ignored);
  fs::create_directory(folder / kOwnLeaf, ignored);
  const std::string processes = read_or_empty(folder / "cgroup.procs");
  for (std::string_view pid : lines_of(processes))
    if (fs::read_symlink(root / "proc" / pid / "exe", ignored) == program)
      write_value(folder / kOwnLeaf / "cgroup.procs", std::string(pid));
}

std::string give_controller(const fs::path& folder, std::string_view controller, const fs::path& root) {
  const fs::path control = folder / "cgroup.subtree_control";
  if (has_word(lines_of(read_or_empty(control) + "\n").front(), ' ', controller)) return {};
  const std::string value = fmt::format("+{}", controller);
  int failure = write_value(control, value);
  if (failure == EBUSY) {
    empty_group(folder, root);
    failure = write_value(control, value);
  }
  return failure_text(control, failure);
}

// One limit: the controller's name, its file and value in each version.
struct Limit {
  std::string_view controller;
  const char* what;
  std::vector<std::pair<std::string, std::string>> version1, version2;  // file, value; the first must work
};

std::vector<Limit> wanted(const CgroupLimits& limits) {
  std::vector<Limit> result;
  if (limits.memory_bytes > 0) {
    const std::string bytes = std::to_string(limits.memory_bytes);
    result.push_back({"memory",
                      "memory",
                      {{"memory.limit_in_bytes", bytes}, {"memory.memsw.limit_in_bytes", bytes}},
                      {{"memory.max", bytes}, {"memory.swap.max", "0"}}});
  }
  if (limits.cores > 0) {
    const auto quota = std::max(kQuotaMicrosecondsMin,
                                static_cast<int64_t>(std::llround(limits.cores * kPeriodMicroseconds)));
    result.push_back({"cpu",
                      "processor time",
                      {{"cpu.cfs_quota_us", std::to_string(quota)}},
                      {{"cpu.max", fmt::format("{} {}", quota, kPeriodMicroseconds)}}});
  }
  if (limits.processes > 0) {
    const std::string count = std::to_string(limits.processes);
    result.push_back({"pids", "number of processes", {{"pids.max", count}}, {{"pids.max", count}}});
  }
  return result;
}

// Empty, or why the limit does not hold. Adds the group's folder to `folders`.
std::string apply(const Limit& limit, const std::string& name, const fs::path& root,
                  std::vector<fs::path>& folders) {
  auto place = find_place(limit.controller, root);
  if (!place) return fmt::format("no control group with the {} controller here", limit.controller);
  if (place->unified && place->folder.filename() == kOwnLeaf) place->folder = place->folder.parent_path();
  if (place->unified)
    if (std::string failure = give_controller(place->folder, limit.controller, root); !failure.empty())
      return failure;
  const fs::path folder = place->folder / name;
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return fmt::format("{}: {}", folder.string(), std::strerror(errno));
  if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  const auto& values = place->unified ? limit.version2 : limit.version1;
  for (const auto& [file, value] : values)
    if (const int failure = write_value(folder / file, value); failure != 0 && file == values.front().first)
      return failure_text(folder / file, failure);
  return {};
}

}  // namespace

Cgroup Cgroup::make(const std::string& name, const CgroupLimits& limits, const fs::path& root) {
  Cgroup group;
  for (const Limit& limit : wanted(limits)) {
    const std::string failure = apply(limit, name, root, group.folders_);
    if (failure.empty()) continue;
    group.note_ += group.note_.empty() ? "" : "; ";
    group.note_ += fmt::format("no limit on {} ({})", limit.what, failure);
  }
  for (const fs::path& folder : group.folders_)
    if (::access((folder / "cgroup.procs").c_str(), W_OK) != 0)
      group.note_ =
          fmt::format("no limits: {} cannot be entered ({})", folder.string(), std::strerror(errno));
  if (!group.note_.starts_with("no limits:")) return group;
  for (const fs::path& folder : group.folders_) ::rmdir(folder.c_str());
  group.folders_.clear();
  return group;
}

Cgroup Cgroup::found(std::vector<fs::path> folders) {
  Cgroup group;
  group.folders_ = std::move(folders);
  return group;
}

std::vector<fs::path> Cgroup::enter() const {
  std::vector<fs::path> files;
  for (const fs::path& folder : folders_) files.push_back(folder / "cgroup.procs");
  return files;
}

int64_t Cgroup::kills_for_memory() const {
  int64_t kills = 0;
  for (const fs::path& folder : folders_)
    for (const char* file : {"memory.events", "memory.oom_control"})
      kills = std::max(kills, number_behind(read_or_empty(folder / file), "oom_kill"));
  return kills;
}

bool Cgroup::kill_and_remove(int64_t patience_ms) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  for (;;) {
    std::erase_if(folders_, [](const fs::path& folder) {
      return ::rmdir(folder.c_str()) == 0 || errno == ENOENT;  // works once nothing is in it
    });
    if (folders_.empty()) return true;
    if (std::chrono::steady_clock::now() >= until) return false;
    for (const fs::path& folder : folders_) {
      if (write_value(folder / "cgroup.kill", "1") == 0) continue;
      const std::string processes = read_or_empty(folder / "cgroup.procs");
      for (std::string_view line : lines_of(processes)) {
        pid_t pid = 0;
        std::from_chars(line.data(), line.data() + line.size(), pid);
        if (pid > 0) ::kill(pid, SIGKILL);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace neutrino::cloud
