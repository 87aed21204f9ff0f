// Models as OCI artefacts (OCI distribution and image specifications): a manifest that lists layers by digest, and blobs.
//   /v2/{name}/manifests/{tag or digest}   JSON
//   /v2/{name}/blobs/{digest}              the bytes, often behind a redirect
// Ollama and Docker Model Runner put a GGUF file into a layer of a media type of their own; others say the file's name in an
// annotation. A registry that wants a token says where to get it (WWW-Authenticate: Bearer realm, service, scope); the place is named
// by a stranger, so credentials go there only if it is the registry's own host.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "weights/hub/remote.h"
#include "weights/manifest.h"
#include "weights/reader.h"
#include "weights/shard_name.h"

namespace neutrino::weights {
namespace {

constexpr std::string_view kManifestTypes =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

constexpr std::string_view kGgufTypes[] = {
    "application/vnd.ollama.image.model",
    "application/vnd.docker.ai.gguf.v3",
    "application/vnd.docker.ai.gguf.v3.part",
};
constexpr std::string_view kLicenseTypes[] = {
    "application/vnd.ollama.image.license",
    "application/vnd.docker.ai.license",
};
// The file's name, in the order in which they are believed.
constexpr std::string_view kNameAnnotations[] = {
    "org.cncf.model.filepath",
    "org.opencontainers.image.title",
};

template <size_t n>
bool is_one_of(std::string_view text, const std::string_view (&list)[n]) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

Error lying(std::string message) { return Error(ErrorCode::data_loss, std::move(message)); }

const json::value* member(const json::value& value, std::string_view key) {
  return value.is_object() ? value.get_object().if_contains(key) : nullptr;
}

std::string text_of(const json::value& value, std::string_view key) {
  const json::value* found = member(value, key);
  return found && found->is_string() ? std::string(found->get_string()) : "";
}

// `Bearer realm="https://...",service="..."` as a map; empty for another scheme.
std::map<std::string, std::string> parse_challenge(std::string_view text) {
  std::map<std::string, std::string> fields;
  if (!text.starts_with("Bearer ") && !text.starts_with("bearer ")) return fields;
  text.remove_prefix(7);
  while (!text.empty()) {
    const auto equals = text.find('=');
    if (equals == text.npos) break;
    std::string key(text.substr(0, equals));
    std::erase_if(key, [](char c) { return c == ' ' || c == ','; });
    text.remove_prefix(equals + 1);
    const bool quoted = text.starts_with('"');
    if (quoted) text.remove_prefix(1);
    const auto end = text.find(quoted ? '"' : ',');
    fields[key] = std::string(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return fields;
}

std::string base64(std::string_view text) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  for (size_t i = 0; i < text.size(); i += 3) {
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k)
      word = word << 8 | (i + k < text.size() ? static_cast<uint8_t>(text[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) result += k <= text.size() - i ? kDigits[word >> (18 - 6 * k) & 63] : '=';
  }
  return result;
}

class Registry {
 public:
  Registry(const HubSettings& settings, net::Url url, std::string name, int64_t retries,
           PullObserver& observer)
      : settings_(settings),
        url_(std::move(url)),
        name_(std::move(name)),
        retries_(retries),
        observer_(observer) {}

  net::Url blob_url(const std::string& digest) const { return at("blobs", digest); }
  const std::string& authorization() const { return authorization_; }

  std::string manifest(const std::string& reference) {
    const std::string text = get(at("manifests", reference), "the manifest");
    if (reference.starts_with("sha256:") && to_hex(sha256(text)) != reference.substr(7))
      throw lying(fmt::format("the manifest of {} does not have the digest {}", name_, reference));
    return text;
  }
  std::string small_blob(const std::string& digest) {
    const std::string text = get(blob_url(digest), "a blob");
    if (to_hex(sha256(text)) != digest.substr(7)) throw lying("a blob does not have its digest");
    return text;
  }
  Error explain(const net::FetchResponse& response, std::string_view what) const {
    if (response.status == 404)
      return make_error(ErrorCode::not_found, "the registry {} has no {} of {} (any more)", url_.host(), what,
                        name_);
    if (response.status == 401 || response.status == 403)
      return make_error(ErrorCode::permission_denied,
                        "the registry {} does not give {} of {} to who has no right to it: set "
                        "NEUTRINO_OCI_CREDENTIALS=user:password",
                        url_.host(), what, name_);
    return make_error(ErrorCode::unavailable, "{} (for {})", status_text(response), what);
  }

 private:
  net::Url at(std::string_view kind, const std::string& reference) const {
    return url_.resolve(fmt::format("/v2/{}/{}/{}", name_, kind, reference));
  }

  std::string get(const net::Url& url, std::string_view what) {
    net::FetchRequest request{.url = url, .headers = {{"Accept", std::string(kManifestTypes)}}};
    request.authorization = authorization_;
    auto response = get_patiently(fetcher_, request, retries_, observer_);
    if (response.status == 401 && authorization_.empty()) {
      log_in(response);
      request.authorization = authorization_;
      response = get_patiently(fetcher_, request, retries_, observer_);
    }
    if (response.status != 200) throw explain(response, what);
    return response.body;
  }

  // T-DL-02: the realm is what the registry says; our credentials are for the registry.
  void log_in(const net::FetchResponse& refused) {
    const std::string basic =
        settings_.oci_credentials.empty() ? "" : "Basic " + base64(settings_.oci_credentials);
    auto challenge = parse_challenge(refused.headers.find("www-authenticate").value_or(""));
    if (!challenge.contains("realm")) {
      authorization_ = basic;
      return;
    }
    net::Url realm = url_.resolve(challenge["realm"]);
    net::require_fetchable(realm);
    if (realm.is_loopback() && !url_.is_loopback())
      throw lying("the registry's realm is this machine: not asked");
    std::string query;
    for (const char* key : {"service", "scope"})
      if (challenge.contains(key))
        query += fmt::format("{}{}={}", query.empty() ? "" : "&", key, net::percent_encode(challenge[key]));
    realm = net::Url::parse(realm.text() + (realm.text().find('?') == std::string::npos ? "?" : "&") + query);
    const bool own = realm.host() == url_.host() && realm.origin() == url_.origin();
    if (!basic.empty() && !own)
      observer_.note(fmt::format(
          "the registry names {} as the place to log in, which is another host: asked without credentials",
          realm.host()));
    const auto response =
        get_patiently(fetcher_, {.url = realm, .authorization = own ? basic : ""}, retries_, observer_);
    if (response.status != 200) throw explain(response, "a token");
    const json::value answer = parse_json(response.body);
    std::string token = text_of(answer, "token");
    if (token.empty()) token = text_of(answer, "access_token");
    if (token.empty()) throw lying(fmt::format("{} gives no token", realm.host()));
    authorization_ = "Bearer " + token;
  }

  const HubSettings& settings_;
  net::Url url_;
  std::string name_;
  int64_t retries_;
  PullObserver& observer_;
  net::Fetcher fetcher_;
  std::string authorization_;
};

struct Layer {
  std::string media_type, digest, name;
  int64_t bytes = 0;
};

Layer read_layer(const json::value& value) {
  Layer layer{.media_type = text_of(value, "mediaType"), .digest = text_of(value, "digest")};
  if (!layer.digest.starts_with("sha256:")) throw lying("a layer's digest is not a SHA-256");
  BlobDigest::parse(std::string_view(layer.digest).substr(7));
  const json::value* size = member(value, "size");
  if (!size || !size->is_int64() || size->get_int64() < 0) throw lying("a layer has no size");
  layer.bytes = size->get_int64();
  if (const json::value* annotations = member(value, "annotations"))
    for (const std::string_view key : kNameAnnotations)
      if (layer.name.empty()) layer.name = text_of(*annotations, key);
  return layer;
}

std::vector<Layer> read_layers(const json::value& manifest) {
  const json::value* layers = member(manifest, "layers");
  if (!layers || !layers->is_array()) throw lying("the registry's manifest has no layers");
  std::vector<Layer> result;
  for (const json::value& value : layers->get_array()) result.push_back(read_layer(value));
  return result;
}

// Of an index the only manifest, or the only one that is for no platform.
std::string digest_in_index(const json::value& index) {
  std::vector<std::string> all, plain;
  for (const json::value& entry : index.at("manifests").as_array()) {
    all.push_back(text_of(entry, "digest"));
    if (!member(entry, "platform")) plain.push_back(all.back());
  }
  const auto& found = plain.size() == 1 ? plain : all;
  if (found.size() != 1)
    throw make_error(ErrorCode::failed_precondition,
                     "the tag stands for {} manifests: name one by @sha256:DIGEST", found.size());
  BlobDigest::parse(std::string_view(found[0]).substr(std::min<size_t>(7, found[0].size())));
  return found[0];
}

bool is_weights(const Layer& layer) {
  return is_one_of(layer.media_type, kGgufTypes) || layer.name.ends_with(".gguf") ||
         layer.name.ends_with(".safetensors");
}

// Layers of GGUF without names: one is "<title>.gguf", several are the parts of a split file.
void name_layers(std::vector<Layer>& layers, const std::string& title) {
  std::vector<Layer*> unnamed;
  for (Layer& layer : layers)
    if (layer.name.empty() && is_one_of(layer.media_type, kGgufTypes)) unnamed.push_back(&layer);
  const auto parts = static_cast<int64_t>(unnamed.size());
  for (int64_t i = 0; i < parts; ++i)
    unnamed[static_cast<size_t>(i)]->name =
        parts == 1 ? title + ".gguf" : ShardName{title, ".gguf", i + 1, parts}.file(i + 1);
  for (Layer& layer : layers) {
    if (layer.name.starts_with("./")) layer.name.erase(0, 2);
    if (layer.name.empty()) continue;
    if (layer.name.find('\\') != layer.name.npos || !is_file_name(layer.name))
      throw lying(fmt::format("the registry names a file {}, which is no name of a file: nothing was fetched",
                              in_quotes(layer.name)));
  }
}

License license_of(Registry& registry, const std::vector<Layer>& layers) {
  constexpr int64_t kTextBytesMax = 1 << 20;
  License license;
  for (const Layer& layer : layers) {
    if (!is_one_of(layer.media_type, kLicenseTypes) || layer.bytes > kTextBytesMax) continue;
    const std::string text = registry.small_blob(layer.digest);
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == text.npos) continue;
    const auto end = text.find_first_of("\r\n", first);
    const std::string title = printable(text.substr(first, end == text.npos ? end : end - first), 120);
    license.id = title == "Apache License"          ? "apache-2.0"
                 : title.starts_with("MIT License") ? "mit"
                                                    : "other";
    if (license.id == "other") license.name = title;
  }
  return license;
}

}  // namespace

RemoteModel look_up_oci(const HubSettings& settings, const net::Url& url, const std::string& repository,
                        const std::string& reference, const FileChoice& choice, int64_t retries,
                        PullObserver& observer) {
  const auto registry = std::make_shared<Registry>(settings, url, repository, retries, observer);
  std::string text = registry->manifest(reference);
  json::value manifest = parse_json(text);
  if (const json::value* list = member(manifest, "manifests"); list && list->is_array()) {
    text = registry->manifest(digest_in_index(manifest));
    manifest = parse_json(text);
  }
  std::vector<Layer> layers = read_layers(manifest);
  const std::string title = repository.substr(repository.rfind('/') + 1);
  name_layers(layers, title);
  std::vector<std::string> names;
  for (const Layer& layer : layers)
    if (!layer.name.empty()) names.push_back(layer.name);
  if (std::none_of(layers.begin(), layers.end(), is_weights))
    throw make_error(ErrorCode::not_found, "{} holds no model: no layer is a GGUF or safetensors file",
                     repository);
  const auto chosen = choose_files(names, choice);
  RemoteModel model{.source =
                        fmt::format("oci://{}/{}@sha256:{}", url.origin().substr(url.origin().find("//") + 2),
                                    repository, to_hex(sha256(text)))};
  for (const Layer& layer : layers)
    if (std::find(chosen.begin(), chosen.end(), layer.name) != chosen.end())
      model.files.push_back({.name = layer.name,
                             .url = registry->blob_url(layer.digest),
                             .bytes = layer.bytes,
                             .sha256 = layer.digest.substr(7)});
  const bool is_tag = !reference.starts_with("sha256:") && reference != "latest";
  model.default_name = is_tag ? title + "-" + reference : title;
  model.license = license_of(*registry, layers);
  model.authorization = registry->authorization();
  model.explain = [registry](const net::FetchResponse& response, std::string_view what) {
    return registry->explain(response, what);
  };
  return model;
}

}  // namespace neutrino::weights
