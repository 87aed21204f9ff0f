#include "weights/license.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "weights/reader.h"

namespace neutrino::weights {
namespace {

struct KnownLicense {
  std::string_view id;
  LicenseTerms terms;
};

// The identifiers of the Hugging Face hub (its documentation, "Licenses"), lower case.
constexpr KnownLicense kLicenses[] = {
    {"apache-2.0", LicenseTerms::open},
    {"mit", LicenseTerms::open},
    {"bsd", LicenseTerms::open},
    {"bsd-2-clause", LicenseTerms::open},
    {"bsd-3-clause", LicenseTerms::open},
    {"bsd-3-clause-clear", LicenseTerms::open},
    {"cc0-1.0", LicenseTerms::open},
    {"cc-by-2.0", LicenseTerms::open},
    {"cc-by-2.5", LicenseTerms::open},
    {"cc-by-3.0", LicenseTerms::open},
    {"cc-by-4.0", LicenseTerms::open},
    {"cc-by-sa-3.0", LicenseTerms::open},
    {"cc-by-sa-4.0", LicenseTerms::open},
    {"cdla-permissive-1.0", LicenseTerms::open},
    {"cdla-permissive-2.0", LicenseTerms::open},
    {"isc", LicenseTerms::open},
    {"unlicense", LicenseTerms::open},
    {"wtfpl", LicenseTerms::open},
    {"zlib", LicenseTerms::open},
    {"ncsa", LicenseTerms::open},
    {"postgresql", LicenseTerms::open},
    {"artistic-2.0", LicenseTerms::open},
    {"afl-3.0", LicenseTerms::open},
    {"bsl-1.0", LicenseTerms::open},
    {"ecl-2.0", LicenseTerms::open},
    {"epl-1.0", LicenseTerms::open},
    {"epl-2.0", LicenseTerms::open},
    {"eupl-1.1", LicenseTerms::open},
    {"eupl-1.2", LicenseTerms::open},
    {"gpl", LicenseTerms::open},
    {"gpl-2.0", LicenseTerms::open},
    {"gpl-3.0", LicenseTerms::open},
    {"lgpl", LicenseTerms::open},
    {"lgpl-2.1", LicenseTerms::open},
    {"lgpl-3.0", LicenseTerms::open},
    {"agpl-3.0", LicenseTerms::open},
    {"mpl-2.0", LicenseTerms::open},
    {"ms-pl", LicenseTerms::open},
    {"osl-3.0", LicenseTerms::open},
    {"ofl-1.1", LicenseTerms::open},
    {"openmdw-1.0", LicenseTerms::open},
    {"gemma", LicenseTerms::conditional},
    {"llama2", LicenseTerms::conditional},
    {"llama3", LicenseTerms::conditional},
    {"llama3.1", LicenseTerms::conditional},
    {"llama3.2", LicenseTerms::conditional},
    {"llama3.3", LicenseTerms::conditional},
    {"llama4", LicenseTerms::conditional},
    {"openrail", LicenseTerms::conditional},
    {"openrail++", LicenseTerms::conditional},
    {"creativeml-openrail-m", LicenseTerms::conditional},
    {"bigscience-openrail-m", LicenseTerms::conditional},
    {"bigscience-bloom-rail-1.0", LicenseTerms::conditional},
    {"bigcode-openrail-m", LicenseTerms::conditional},
    {"deepfloyd-if-license", LicenseTerms::conditional},
    {"cc-by-nd-4.0", LicenseTerms::conditional},
    {"nvidia-open-model-license", LicenseTerms::conditional},
    {"lfm1.0", LicenseTerms::conditional},
    {"etalab-2.0", LicenseTerms::open},
    {"c-uda", LicenseTerms::conditional},
    {"h-research", LicenseTerms::non_commercial},
    {"intel-research", LicenseTerms::non_commercial},
    {"apple-amlr", LicenseTerms::non_commercial},
    {"apple-ascl", LicenseTerms::conditional},
    {"fair-noncommercial-research-license", LicenseTerms::non_commercial},
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}

// "cc-by-nc-4.0", "research-non-commercial": whatever the rest means, this is clear.
bool names_non_commercial(std::string_view text) {
  const std::string plain = lower(text);
  return plain.find("-nc-") != plain.npos || plain.ends_with("-nc") ||
         plain.find("noncommercial") != plain.npos || plain.find("non-commercial") != plain.npos ||
         plain.find("non commercial") != plain.npos;
}

LicenseTerms terms_of_id(const std::string& id) {
  for (const KnownLicense& known : kLicenses)
    if (known.id == id) return known.terms;
  return names_non_commercial(id) ? LicenseTerms::non_commercial : LicenseTerms::unknown;
}

std::string described(const License& license) {
  std::string text = license.id == "unknown" ? "" : license.id;
  if (!license.name.empty()) text += text.empty() ? license.name : fmt::format(" ({})", license.name);
  return text;
}

}  // namespace

LicenseTerms license_terms(const License& license) {
  const LicenseTerms by_id = terms_of_id(lower(license.id));
  if (by_id != LicenseTerms::unknown) return by_id;
  const LicenseTerms by_name = terms_of_id(lower(license.name));  // "other", named "llama4" by its authors
  return by_name == LicenseTerms::open ? LicenseTerms::unknown : by_name;
}

std::string_view license_terms_name(LicenseTerms terms) {
  switch (terms) {
    case LicenseTerms::open: return "open";
    case LicenseTerms::conditional: return "conditional";
    case LicenseTerms::non_commercial: return "non-commercial";
    case LicenseTerms::unknown: return "unknown";
  }
  return "unknown";
}

std::string license_notice(const License& license) {
  const std::string what = described(license);
  std::string text;
  switch (license_terms(license)) {
    case LicenseTerms::open: break;
    case LicenseTerms::conditional:
      text = fmt::format("its licence, {}, sets conditions on use: read them before you use the model", what);
      break;
    case LicenseTerms::non_commercial:
      text = fmt::format("its licence, {}, forbids commercial use", what);
      break;
    case LicenseTerms::unknown:
      text = what.empty()
                 ? "it does not say under which licence it may be used"
                 : fmt::format(
                       "its licence, {}, is not one that neutrino knows: read it before you use the model",
                       what);
  }
  if (!text.empty() && !license.link.empty()) text += fmt::format(" ({})", license.link);
  if (license.gated)
    text += fmt::format("{}its authors ask users to accept their terms at the hub", text.empty() ? "" : "; ");
  return text;
}

// ---- model cards

namespace {

// The scalar of a line "key: value", without quotes and a comment behind it.
std::string scalar(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return "";
  text.remove_prefix(first);
  if (text[0] == '"' || text[0] == '\'') {
    const auto end = text.find(text[0], 1);
    return end == text.npos ? "" : std::string(text.substr(1, end - 1));
  }
  if (const auto comment = text.find(" #"); comment != text.npos) text = text.substr(0, comment);
  const auto last = text.find_last_not_of(" \t\r");
  if (last == text.npos || text[0] == '[' || text[0] == '{' || text[0] == '|' || text[0] == '>') return "";
  return std::string(text.substr(0, last + 1));
}

void set_field(License& license, std::string_view key, std::string_view line_rest) {
  constexpr size_t kFieldBytes = 200;
  const std::string value = printable(scalar(line_rest), kFieldBytes);
  if (value.empty()) return;
  if (key == "license") license.id = lower(value);
  if (key == "license_name") license.name = value;
  if (key == "license_link") license.link = value;
  if (key == "extra_gated_prompt" || key == "extra_gated_heading") license.gated = true;
}

std::string_view take_line(std::string_view& text) {
  const auto end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

}  // namespace

License read_model_card(std::string_view readme) {
  License license;
  if (readme.starts_with("\xef\xbb\xbf")) readme.remove_prefix(3);
  if (take_line(readme) != "---") return license;
  while (!readme.empty()) {
    const std::string_view line = take_line(readme);
    if (line == "---") break;
    if (const auto colon = line.find(':'); colon != line.npos)
      set_field(license, line.substr(0, colon), line.substr(colon + 1));
  }
  return license;
}

License combine(const License& said, const License& fallback) {
  License result = said;
  if (said.id.empty() || said.id == "unknown") result.id = fallback.id;
  if (said.name.empty()) result.name = fallback.name;
  if (said.link.empty()) result.link = fallback.link;
  result.gated = said.gated || fallback.gated;
  return result;
}

}  // namespace neutrino::weights
