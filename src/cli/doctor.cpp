// neutrino doctor: what this machine can do, and what is missing. Each line is a fact that decides how neutrino runs here.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/machine_facts.h"
#include "cli/options.h"
#include "compute/backend.h"

namespace neutrino::cli {
namespace {

std::string first_value(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    const auto start = line.find_first_not_of(" \t", colon + 1);
    return start == line.npos ? "" : line.substr(start);
  }
  return "unknown";
}

std::string home_state(const std::filesystem::path& home) {
  std::error_code failure;
  if (!std::filesystem::exists(home, failure)) return "not there yet (made by the first import)";
  return ::access(home.c_str(), W_OK) == 0 ? "writable" : "NOT WRITABLE";
}

}  // namespace

int run_doctor(int argc, char** argv) {
  CLI::App app("Say what this machine can do and what is missing.\nExample: neutrino doctor",
               "neutrino doctor");
  bool as_json = false;
  app.add_flag("--json", as_json, "print one JSON object");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;

  const auto cores = static_cast<int64_t>(std::thread::hardware_concurrency());
  const auto home = neutrino_home();
  std::error_code failure;
  auto existing = home;
  while (!std::filesystem::exists(existing, failure) && existing.has_relative_path())
    existing = existing.parent_path();
  const auto space = std::filesystem::space(existing, failure);
  json::array isas;
  for (const std::string_view isa : compute::available_isas()) isas.push_back(json::string(isa));
  const json::object facts{
      {"version", NEUTRINO_VERSION},
      {"cpu", first_value("/proc/cpuinfo", "model name")},
      {"cores", cores},
      {"kernel_tables", std::move(isas)},
      {"memory_total", first_value("/proc/meminfo", "MemTotal")},
      {"memory_available", first_value("/proc/meminfo", "MemAvailable")},
      {"read_bandwidth_gb_per_s", read_bandwidth(cores) / 1e9},
      {"home", home.string()},
      {"home_state", home_state(home)},
      {"disk_free_gb", static_cast<double>(space.available) / 1e9},
      {"gpu", std::filesystem::exists("/dev/nvidia0")
                  ? "NVIDIA device present; this build computes on the CPU"
                  : "none found"},
  };
  if (as_json) return std::puts(to_text(facts).c_str()), 0;
  for (const auto& [key, value] : facts) {
    const std::string shown = value.is_string() ? std::string(value.as_string()) : to_text(value);
    std::printf("%-26s %s\n", std::string(key).c_str(), shown.c_str());
  }
  return 0;
}

}  // namespace neutrino::cli
