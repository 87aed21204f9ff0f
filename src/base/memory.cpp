#include "base/memory.h"

#include <charconv>
#include <limits>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace neutrino {
namespace fs = std::filesystem;
namespace {

std::string read_or_empty(const fs::path& path) {
  try {
    return read_file(path, 1 << 20);
  } catch (const Error&) {
    return {};
  }
}

// nullopt: no such file, or "max".
std::optional<int64_t> read_number(const fs::path& path) {
  const std::string text = read_or_empty(path);
  int64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{} || end == text.data()) return std::nullopt;
  return number;
}

// The number behind `name` in lines of "name number" or "name: number kB".
std::optional<int64_t> find_number(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.starts_with(name)) continue;
    line.remove_prefix(name.size());
    if (line.find_first_of(" :\t") != 0) continue;
    line.remove_prefix(std::min(line.size(), line.find_first_of("0123456789")));
    int64_t number = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), number).ec == std::errc{}) return number;
  }
  return std::nullopt;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char*
      reclaimable;  // of memory.stat: cached file pages, which the kernel gives back before it refuses
};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles kVersion2{"memory.max", "memory.current", "inactive_file"};

std::optional<AvailableMemory> group_memory(const fs::path& folder, const GroupFiles& files) {
  constexpr int64_t kNoLimit = int64_t{1} << 60;  // version 1 writes "none" as a huge number
  const auto limit = read_number(folder / files.limit), usage = read_number(folder / files.usage);
  if (!limit || !usage || *limit >= kNoLimit) return std::nullopt;
  const auto reclaimable = find_number(read_or_empty(folder / "memory.stat"), files.reclaimable).value_or(0);
  return AvailableMemory{std::max<int64_t>(0, *limit - *usage + std::min(reclaimable, *usage)),
                         fmt::format("the control group {}", folder.string())};
}

// The least of a group and those above it, up to the mount.
void bound_by_groups(AvailableMemory& memory, const fs::path& mount, std::string_view group,
                     const GroupFiles& files) {
  fs::path folder = mount / fs::path(group).relative_path();
  for (;; folder = folder.parent_path()) {
    if (auto bound = group_memory(folder, files); bound && bound->bytes < memory.bytes)
      memory = std::move(*bound);
    if (folder == mount || folder.string().size() <= mount.string().size()) return;
  }
}

// Lines of /proc/self/cgroup are "number:controllers:path"; version 2 has no controllers.
void bound_by_line(AvailableMemory& memory, std::string_view line, const fs::path& groups) {
  const auto first = line.find(':'), second = line.find(':', first + 1);
  if (first == line.npos || second == line.npos) return;
  const auto controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
  if (controllers.empty()) bound_by_groups(memory, groups, group, kVersion2);
  if (fmt::format(",{},", controllers).find(",memory,") != std::string::npos)
    bound_by_groups(memory, groups / "memory", group, kVersion1);
}

}  // namespace

AvailableMemory available_memory(const fs::path& root) {
  const auto kib = find_number(read_or_empty(root / "proc/meminfo"), "MemAvailable");
  AvailableMemory memory{kib ? *kib * 1024 : std::numeric_limits<int64_t>::max(),
                         "this machine (MemAvailable)"};
  const std::string lines = read_or_empty(root / "proc/self/cgroup");
  for (std::string_view rest = lines; !rest.empty();) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    bound_by_line(memory, line, root / "sys/fs/cgroup");
  }
  return memory;
}

void require_memory(int64_t bytes, std::string_view what, const fs::path& root) {
  require_memory(bytes, what, available_memory(root));
}

void require_memory(int64_t bytes, std::string_view what, const AvailableMemory& available) {
  if (bytes <= available.bytes) return;
  throw make_error(ErrorCode::resource_exhausted, "{} needs {} of memory, but only {} are available by {}",
                   what, size_text(bytes), size_text(available.bytes), available.source)
      .with_reason("insufficient_memory");
}

std::string size_text(int64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1023.95 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace neutrino
