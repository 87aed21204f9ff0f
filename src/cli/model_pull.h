// neutrino model pull: its flags and its work, which model.cpp puts beside the other commands of the store.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "weights/store.h"

namespace neutrino::cli {

struct PullOptions {
  std::string reference, name, revision, token_file, sha256, part_size;
  std::vector<std::string> include, exclude;
  int64_t connections = 4, retries = 5;
  bool as_json = false, dry_run = false;
};

extern const char* const kPullHelp;
void add_pull_options(CLI::App& command, PullOptions& options);
int run_pull(const PullOptions& options);

// What import and pull say at their end, and on stderr the notice of a licence that is not plainly open.
void print_taken(const weights::Manifest& manifest, bool as_json);
// "1.2B", "135.0M".
std::string count_text(int64_t count);
// A line on a terminal that is written over; nothing where nobody looks.
weights::Progress progress_bar(std::string_view action);

}  // namespace neutrino::cli
