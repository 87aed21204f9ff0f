#include "weights/lineage.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;

std::vector<std::pair<std::string, fs::path>> files_of(const fs::path& path) {
  if (!fs::is_directory(path)) return {{path.filename().string(), path}};
  std::vector<std::pair<std::string, fs::path>> files;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file()) files.emplace_back(fs::relative(entry.path(), path).string(), entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

json::object parent_json(const LineageParent& parent) {
  return {
      {"name", parent.name}, {"sha256", parent.sha256}, {"bytes", parent.bytes}, {"license", parent.license}};
}

}  // namespace

std::vector<json::value> read_lineage(const WeightFile& file) {
  const auto text = file.metadata().text(kLineageKey);
  if (!text) return {};
  const json::value record = parse_json(*text);
  const bool well =
      record.is_array() && std::ranges::all_of(record.get_array(), [](auto& s) { return s.is_object(); });
  if (!well)
    throw make_error(ErrorCode::invalid_argument, "{} of {} must be a list of objects", kLineageKey,
                     file.path().filename().string());
  return {record.get_array().begin(), record.get_array().end()};
}

LineageParent adapter_parent(const fs::path& path) {
  LineageParent parent{.name = path.filename().string(), .sha256 = {}, .license = {}};
  const auto files = files_of(path);
  Sha256 list;
  std::string last;
  for (const auto& [name, file_path] : files) {
    const MappedFile mapped = MappedFile::open(file_path);
    const std::string_view bytes(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
    parent.bytes += std::ssize(bytes);
    last = to_hex(sha256(bytes));
    list.update(fmt::format("{}  {}\n", last, name));
  }
  parent.sha256 = files.size() == 1 ? last : to_hex(list.finish());
  return parent;
}

LineageParent lineage_parent(const WeightFile& file, std::string name, const fs::path& path) {
  LineageParent parent = adapter_parent(path);
  parent.name = std::move(name);
  parent.steps = read_lineage(file);
  parent.license = file.metadata().text("general.license").value_or("unknown");
  return parent;
}

std::string lineage_text(const LineageStep& step) {
  json::array steps, parents;
  for (const LineageParent& parent : step.parents) {
    for (const json::value& earlier : parent.steps)
      if (std::ranges::find(steps, earlier) == steps.end()) steps.push_back(earlier);
    parents.push_back(parent_json(parent));
  }
  steps.push_back(json::object{{"operation", step.operation},
                               {"tool", "neutrino " NEUTRINO_VERSION},
                               {"parameters", step.parameters},
                               {"parents", std::move(parents)}});
  return to_text(steps);
}

std::string derived_license(const std::vector<LineageParent>& parents) {
  std::string all;
  std::vector<std::string> seen;
  for (const LineageParent& parent : parents) {
    if (parent.license.empty() || std::ranges::find(seen, parent.license) != seen.end()) continue;
    seen.push_back(parent.license);
    all += (all.empty() ? "" : " AND ") + parent.license;
  }
  return all;
}

}  // namespace neutrino::weights
