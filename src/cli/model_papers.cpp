#include "cli/model_papers.h"

#include "base/sha256.h"
#include "weights/license.h"

namespace neutrino::cli {

json::object license_json(const weights::ModelFacts& facts) {
  const weights::License& license = facts.license;
  const std::string notice = weights::license_notice(license);
  return {{"name", license.name.empty() ? license.id : license.name},
          {"type", license.id},
          {"url", license.link},
          {"path", ""},
          {"content", notice},
          {"size", notice.size()},
          {"sha", to_hex(sha256(notice))},
          {"terms", weights::license_terms_name(weights::license_terms(license))},
          {"gated", license.gated}};
}

json::object manifest_json(const weights::OpenModel& model) {
  json::object manifest{{"name", model.name}};
  if (model.manifest) manifest = weights::to_json(*model.manifest);
  if (const json::value* source = manifest.if_contains("source"))
    if (!source->is_string() || source->as_string().starts_with('/')) manifest.erase("source");
  if (model.manifest) return manifest;
  const std::filesystem::path path = model.file->path();
  manifest["facts"] = weights::to_json(model.facts);
  manifest["files"] = json::array{json::object{{"name", path.filename().string()}}};
  return manifest;
}

}  // namespace neutrino::cli
