// What a bench's main function is: an exception becomes a line on standard error and the exit status 1.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>

namespace neutrino {

inline int run_main(int (*run)(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", std::filesystem::path(argv[0]).filename().string(), error.what());
    return 1;
  }
}

}  // namespace neutrino
