// Where a derived model comes from: a record of each step that made it out of others, kept in the file itself.
//
// GGUF: the key neutrino.lineage, JSON text; a checkpoint folder: neutrino_lineage.json. A list of steps, oldest first:
// {"operation", "tool", "parameters", "parents": [{"name", "sha256", "bytes", "license"}]}. No times: the same step on the same
// parents writes the same file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

inline constexpr std::string_view kLineageKey = "neutrino.lineage";
inline constexpr std::string_view kLineageFile = "neutrino_lineage.json";

struct LineageParent {
  std::string name;
  std::string sha256;   // of its file; of several: of the list "<sha256>  <name>\n", sorted by name
  int64_t bytes = 0;    // of all its files
  std::string license;  // as the model says, or "unknown"; empty: an adapter, which does not say
  std::vector<json::value> steps = {};  // its own lineage
};

struct LineageStep {
  std::string operation;  // "convert", "merge"
  json::object parameters;
  std::vector<LineageParent> parents;
};

// What a file says about its lineage; empty: nothing. Throws Error for a record that is no list of objects.
std::vector<json::value> read_lineage(const WeightFile& file);

// The parent that `file` is, opened from `path` (a file or a folder): hashes all of its bytes.
LineageParent lineage_parent(const WeightFile& file, std::string name, const std::filesystem::path& path);

// The same for an adapter, of whose files only the bytes are known.
LineageParent adapter_parent(const std::filesystem::path& path);

// The record of what `step` makes: its parents' steps (each once), then itself.
std::string lineage_text(const LineageStep& step);

// The licence of what is made from these parents: theirs, each once, joined by " AND " (an SPDX expression where they are).
std::string derived_license(const std::vector<LineageParent>& parents);

}  // namespace neutrino::weights
