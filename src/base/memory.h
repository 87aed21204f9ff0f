// How much memory this process may still take, from the machine and from its control groups (v1 and v2), and a refusal with
// the figures for what would not fit. A model that does not fit is an error before it is loaded, not a kill afterwards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace neutrino {

struct AvailableMemory {
  int64_t bytes = 0;
  std::string
      source;  // what sets the bound: "this machine (MemAvailable)", "the control group /sys/fs/cgroup/..."
};

// `root` stands before /proc and /sys: a test gives a folder of its own.
AvailableMemory available_memory(const std::filesystem::path& root = "/");

// Throws Error{resource_exhausted} that says what needs how much and how much there is.
void require_memory(int64_t bytes, std::string_view what, const std::filesystem::path& root = "/");
void require_memory(int64_t bytes, std::string_view what, const AvailableMemory& available);

std::string size_text(int64_t bytes);  // "98.9 MiB"

}  // namespace neutrino
