// Counts what became of thousands of hostile files: which check refused each, which were used after all.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/error.h"

namespace neutrino {

struct HostileReport {
  int64_t files = 0;
  int64_t past_header = 0;                 // refused by no check of the file's outermost form
  int64_t accepted = 0;                    // opened, and used without an Error
  std::map<std::string, int64_t> refused;  // by the check that refused: Error::reason(); "": it has no name

  // Opens and uses one file. `header_checks`: the reasons that count as not past the header. Anything that is thrown but Error
  // is a bug and gets out.
  void count(const std::set<std::string>& header_checks, const std::function<void()>& use) {
    ++files;
    try {
      use();
      ++accepted, ++past_header;
    } catch (const Error& error) {
      ++refused[error.reason()];
      past_header += !header_checks.contains(error.reason());
    }
  }

  void print() const {
    std::printf("%ld hostile files: %ld past the header, %ld accepted and used; refused by\n", files,
                past_header, accepted);
    for (const auto& [check_name, count] : refused) std::printf("  %6ld  %s\n", count, check_name.c_str());
  }

  // Prints, and expects that the files were hostile in many ways (refused by at least `checks` of them), and half of them below the surface.
  void expect_thorough(size_t checks) const {
    print();
    EXPECT_GE(files, 1000);
    EXPECT_GE(past_header * 2, files);
    EXPECT_GT(accepted, files / 50);
    EXPECT_GE(refused.size(), checks);
    EXPECT_FALSE(refused.contains("")) << "every check has a name";
  }
};

inline bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value && *value && std::string_view(value) != "0";
}

// NEUTRINO_TEST_LONG=1 asks for the long form of a test.
inline int64_t budget(int64_t usual, int64_t long_form) {
  return is_set("NEUTRINO_TEST_LONG") ? long_form : usual;
}

}  // namespace neutrino
