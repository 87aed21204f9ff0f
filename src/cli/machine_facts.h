// What this machine can do, as figures that others decide by.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace neutrino::cli {

// Bytes a second that `threads` together read from memory, over a working set that no cache holds; best of five passes.
double read_bandwidth(int64_t threads);

struct MachineFacts {
  std::string kernel_table;  // that runs here
  double memory_bytes_per_second = 0;
};

// Measured once and kept in `file`; measured again where another processor is found there.
MachineFacts machine_facts(const std::filesystem::path& file);

}  // namespace neutrino::cli
