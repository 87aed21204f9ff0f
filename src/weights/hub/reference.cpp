#include "weights/hub/reference.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "weights/manifest.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

bool is_repository_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '-';
}

bool is_repository_part(std::string_view part) {
  return !part.empty() && part.size() <= 96 && part[0] != '.' && part[0] != '-' &&
         std::all_of(part.begin(), part.end(), is_repository_character);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == text.npos) return parts;
    text.remove_prefix(at + 1);
  }
}

Error malformed(std::string_view text) {
  return make_error(
      ErrorCode::invalid_argument,
      "{} is not a model: OWNER/NAME[@REVISION][:QUANT] of the hub, https://..., oci://HOST/NAME:TAG "
      "or file:PATH was expected",
      in_quotes(text));
}

void check_repository(const Reference& reference, std::string_view text) {
  const auto parts = split(reference.repository, '/');
  if (parts.size() > 2 || !std::all_of(parts.begin(), parts.end(), is_repository_part)) throw malformed(text);
}

// Cuts what stands behind the last `separator` off, if there is one after the last '/'.
std::string take_suffix(std::string_view& text, char separator) {
  const auto at = text.rfind(separator);
  const auto slash = text.rfind('/');
  if (at == text.npos || (slash != text.npos && at < slash)) return "";
  const std::string suffix(text.substr(at + 1));
  text = text.substr(0, at);
  return suffix;
}

Reference parse_hub(std::string_view rest, std::string_view whole) {
  Reference reference;
  reference.quant = take_suffix(rest, ':');
  if (const auto at = rest.find('@'); at != rest.npos) {  // a revision may hold a '/': refs/pr/1
    reference.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (reference.revision.empty()) throw malformed(whole);
  }
  if (whole.ends_with(':')) throw malformed(whole);
  reference.repository = rest;
  check_repository(reference, whole);
  return reference;
}

// A page of the hub: /owner/name, /owner/name/tree/REVISION, /owner/name/resolve/REVISION/FILE.
Reference parse_url(std::string_view text, const net::Url& hub) {
  Reference reference{.kind = Reference::Kind::url, .url = net::Url::parse(text)};
  const auto parts = split(std::string_view(reference.url.path()).substr(1), '/');
  if (reference.url.origin() != hub.origin() || parts.size() < 2 || hub.path() != "/") return reference;
  const bool is_page =
      (parts.size() == 2 && !parts[1].ends_with(".gguf")) || (parts.size() == 4 && parts[2] == "tree");
  const bool is_file = parts.size() >= 5 && (parts[2] == "resolve" || parts[2] == "blob");
  if (!is_page && !is_file) return reference;
  reference.kind = Reference::Kind::hub;
  reference.repository = fmt::format("{}/{}", parts[0], parts[1]);
  if (parts.size() > 3) reference.revision = parts[3];
  for (size_t i = 4; i < parts.size(); ++i) reference.file += fmt::format("{}{}", i > 4 ? "/" : "", parts[i]);
  if (is_file && !is_file_name(reference.file)) throw malformed(text);
  check_repository(reference, text);
  return reference;
}

Reference parse_oci(std::string_view text) {
  std::string_view rest = text.substr(std::string_view("oci://").size());
  Reference reference{.kind = Reference::Kind::oci, .revision = "latest"};
  const auto slash = rest.find('/');
  if (slash == rest.npos || slash == 0) throw malformed(text);
  const std::string_view host = rest.substr(0, slash);
  rest.remove_prefix(slash + 1);
  if (const auto at = rest.find('@'); at != rest.npos) {
    reference.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!reference.revision.starts_with("sha256:")) throw malformed(text);
    BlobDigest::parse(std::string_view(reference.revision).substr(7));
  } else if (std::string tag = take_suffix(rest, ':'); !tag.empty()) {
    reference.revision = std::move(tag);
    if (!is_repository_part(reference.revision)) throw malformed(text);
  }
  reference.repository = rest;
  for (const std::string_view part : split(rest, '/'))
    if (!is_repository_part(part)) throw malformed(text);
  const net::Url plain =
      net::Url::parse(fmt::format("http://{}", host));  // on this machine without TLS, as for tests
  reference.url = plain.is_loopback() ? plain : net::Url::parse(fmt::format("https://{}", host));
  return reference;
}

Reference parse_path(std::string_view path, std::string_view whole) {
  if (path.starts_with("//")) path.remove_prefix(path.starts_with("//localhost/") ? 11 : 2);
  if (path.empty()) throw malformed(whole);
  return {.kind = Reference::Kind::path, .path = std::string(path)};
}

bool starts_like_a_path(std::string_view text) {
  return text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || text == "." ||
         text == "..";
}

}  // namespace

Reference parse_reference(std::string_view text, const net::Url& hub) {
  if (text.starts_with("oci://")) return parse_oci(text);
  if (text.starts_with("https://") || text.starts_with("http://")) return parse_url(text, hub);
  if (text.starts_with("file:")) return parse_path(text.substr(5), text);
  if (starts_like_a_path(text)) return parse_path(text, text);
  if (text.starts_with("hf://")) return parse_hub(text.substr(5), text);
  if (text.starts_with("hf:")) return parse_hub(text.substr(3), text);
  if (text.ends_with(".gguf") && text.find('/') == text.npos) return parse_path(text, text);
  return parse_hub(text, text);
}

}  // namespace neutrino::weights
