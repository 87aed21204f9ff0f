// The protocol of the Hugging Face hub, as far as a download needs it:
//   /api/models/{repository}/revision/{revision}            the commit, the licence, whether it is gated
//   /api/models/{repository}/tree/{commit}?recursive=true   names, sizes, SHA-256 (LFS) or git blob SHA-1; pages by a Link header
//   /{repository}/resolve/{commit}/{path}                   the bytes, mostly behind a redirect to a store
// What went wrong is in the header X-Error-Code.
#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "weights/hub/remote.h"
#include "weights/manifest.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

Error lying(std::string message) { return Error(ErrorCode::data_loss, std::move(message)); }

// One repository of a hub, being asked.
struct HubClient {
  const HubSettings& settings;
  std::string repository;
  std::string revision;
  int64_t retries;
  PullObserver& observer;
  net::Fetcher fetcher = {};

  std::string base() const {
    std::string text = settings.hub.text();
    while (text.ends_with('/')) text.pop_back();
    return text;
  }
  net::Url url(std::string_view path) const { return net::Url::parse(base() + std::string(path)); }
  std::string authorization() const { return settings.token.empty() ? "" : "Bearer " + settings.token; }
  net::FetchResponse get(const net::Url& url) {
    const auto response = get_patiently(
        fetcher, {.url = url, .authorization = authorization(), .body_bytes_max = limits::kHubListingBytes},
        retries, observer);
    if (response.status == 200) return response;
    throw explain_hub(response, repository, revision, settings, repository);
  }

  static Error explain_hub(const net::FetchResponse& response, const std::string& repository,
                           const std::string& revision, const HubSettings& settings, std::string_view what);
};

Error HubClient::explain_hub(const net::FetchResponse& response, const std::string& repository,
                             const std::string& revision, const HubSettings& settings,
                             std::string_view what) {
  const std::string code = response.first_headers.find("x-error-code").value_or("");
  const std::string host = settings.hub.host();
  const bool has_token = !settings.token.empty();
  if (code == "GatedRepo")
    return make_error(ErrorCode::permission_denied,
                      "{0} is gated: its authors give it to those who accept their terms. Open {1}/{0} in a "
                      "browser and "
                      "accept them; then {2}",
                      repository, settings.hub.text(),
                      has_token ? "pull again with a token of that account (the one in use has no access)"
                                : "set HF_TOKEN, or give --token-file, to a token of that account")
        .with_reason("gated");
  if (code == "RepoNotFound" || (code.empty() && response.status == 404 && what == repository))
    return make_error(ErrorCode::not_found, "there is no model {} at {}, or it is private{}", repository,
                      host,
                      has_token ? " and the token in use may not read it"
                                : ": for a private one set HF_TOKEN or give --token-file");
  if (code == "RevisionNotFound")
    return make_error(ErrorCode::not_found, "{} has no revision {} (any more) at {}", repository,
                      in_quotes(revision), host);
  if (code == "EntryNotFound")
    return make_error(ErrorCode::not_found, "{} has no file {} (any more) at {}", repository, in_quotes(what),
                      host);
  if (response.status == 401)
    return make_error(ErrorCode::unauthenticated,
                      "{} does not accept the token (HF_TOKEN or --token-file) for {}", host, repository);
  if (response.status == 403)
    return make_error(ErrorCode::permission_denied, "{} does not give access to {} of {}", host, what,
                      repository);
  return make_error(response.status == 404 ? ErrorCode::not_found : ErrorCode::unavailable, "{} (for {})",
                    status_text(response), what);
}

const json::value* member(const json::value& value, std::string_view key) {
  return value.is_object() ? value.get_object().if_contains(key) : nullptr;
}

std::string text_of(const json::value& value, std::string_view key) {
  const json::value* found = member(value, key);
  return found && found->is_string() ? std::string(found->get_string()) : "";
}

json::value parse_answer(const net::FetchResponse& response) {
  try {
    return parse_json(response.body);
  } catch (const Error& error) {
    throw lying(fmt::format("{}, but not with JSON: {}", status_text(response), error.message()));
  }
}

// ---- what the model is

std::string license_field(const json::value& card, std::string_view key) {
  const json::value* value = member(card, key);
  if (value && value->is_array() && !value->get_array().empty()) value = &value->get_array()[0];
  return value && value->is_string() ? printable(std::string(value->get_string()), 200) : "";
}

License license_of(const json::value& info) {
  License license;
  if (const json::value* card = member(info, "cardData")) {
    if (auto id = license_field(*card, "license"); !id.empty()) license.id = id;
    license.name = license_field(*card, "license_name");
    license.link = license_field(*card, "license_link");
  }
  if (const json::value* tags = member(info, "tags"); tags && tags->is_array() && license.id == "unknown")
    for (const json::value& tag : tags->get_array())
      if (tag.is_string() && tag.get_string().starts_with("license:"))
        license.id = printable(std::string(tag.get_string().subview(8)), 200);
  const json::value* gated = member(info, "gated");
  license.gated = gated && !(gated->is_bool() && !gated->get_bool()) && !gated->is_null();
  return license;
}

// ---- its files

int64_t size_of(const json::value& entry, const std::string& name) {
  const json::value* size = member(entry, "size");
  if (size && size->is_int64() && size->get_int64() >= 0) return size->get_int64();
  throw lying(fmt::format("the hub's listing gives no size for {}", in_quotes(name)));
}

RemoteFile file_of(const HubClient& client, const std::string& commit, const json::value& entry) {
  RemoteFile file{.name = text_of(entry, "path")};
  file.url = client.url(
      fmt::format("/{}/resolve/{}/{}", client.repository, commit, net::percent_encode_path(file.name)));
  if (const json::value* lfs = member(entry, "lfs"); lfs && lfs->is_object()) {
    file.sha256 = BlobDigest::parse(text_of(*lfs, "oid")).hex();
    file.bytes = size_of(*lfs, file.name);
  } else {
    file.git_sha1 = text_of(entry, "oid");
    file.bytes = size_of(entry, file.name);
    if (!is_commit(file.git_sha1))
      throw lying(fmt::format("the hub's listing gives no hash for {}", in_quotes(file.name)));
  }
  return file;
}

// A name that climbs out of its folder is no accident: nothing of such a repository is taken.
void refuse_climbing(const std::string& name) {
  const bool climbs = name.starts_with('/') || name.find('\\') != name.npos || name == ".." ||
                      name.starts_with("../") || name.find("/../") != name.npos || name.ends_with("/..") ||
                      name.find('\0') != name.npos;
  if (climbs || name.empty())
    throw lying(fmt::format("the hub lists a file named {}, which is no name of a file: nothing was fetched",
                            in_quotes(name)));
}

// The next page's URL of a Link header: <https://...>; rel="next".
std::optional<net::Url> next_page(const net::FetchResponse& response, const net::Url& hub) {
  const auto link = response.headers.find("link");
  if (!link || link->find("rel=\"next\"") == link->npos) return std::nullopt;
  const auto open = link->find('<'), close = link->find('>');
  if (open == link->npos || close == link->npos || close < open) return std::nullopt;
  net::Url next = response.url.resolve(link->substr(open + 1, close - open - 1));
  if (next.origin() != hub.origin()) throw lying("the hub's listing goes on at another host: not followed");
  return next;
}

std::vector<json::value> list_tree(HubClient& client, const std::string& commit) {
  std::vector<json::value> files;
  std::set<std::string> names;
  std::optional<net::Url> page =
      client.url(fmt::format("/api/models/{}/tree/{}?recursive=true", client.repository, commit));
  for (int64_t pages = 0; page; ++pages) {
    const auto response = client.get(*page);
    const json::value answer = parse_answer(response);
    if (!answer.is_array() || pages >= limits::kHubListingPages)
      throw lying("the hub's listing is not a list of files");
    for (const json::value& entry : answer.get_array()) {
      if (text_of(entry, "type") != "file") continue;
      const std::string name = text_of(entry, "path");
      refuse_climbing(name);
      if (!names.insert(name).second) throw lying(fmt::format("the hub lists {} twice", in_quotes(name)));
      if (is_file_name(name)) files.push_back(entry);
    }
    page = next_page(response, client.settings.hub);
  }
  return files;
}

std::string cache_name(const std::string& repository) {
  std::string name = "models--" + repository;
  if (const auto slash = name.find('/'); slash != name.npos) name.replace(slash, 1, "--");
  return name;
}

// The name in the store: the GGUF file's, or the repository's own.
std::string default_name(const std::string& repository, const std::vector<std::string>& chosen) {
  const std::string title = title_of(chosen);
  return title.empty() ? repository.substr(repository.find('/') + 1) : title;
}

}  // namespace

RemoteModel look_up_hub(const HubSettings& settings, const std::string& repository,
                        const std::string& revision, const FileChoice& choice, int64_t retries,
                        PullObserver& observer) {
  HubClient client{settings, repository, revision.empty() ? "main" : revision, retries, observer};
  const json::value info = parse_answer(client.get(client.url(
      fmt::format("/api/models/{}/revision/{}", repository, net::percent_encode(client.revision)))));
  RemoteModel model{.commit = text_of(info, "sha"), .license = license_of(info)};
  if (!is_commit(model.commit))
    throw lying(
        fmt::format("{} does not say which commit {} is", settings.hub.host(), in_quotes(client.revision)));
  model.source = fmt::format("{}/{}@{}", client.base(), repository, model.commit);
  model.authorization = client.authorization();
  model.explain = [settings, repository, commit = model.commit](const net::FetchResponse& response,
                                                                std::string_view what) {
    return HubClient::explain_hub(response, repository, commit, settings, what);
  };
  const auto entries = list_tree(client, model.commit);
  std::vector<std::string> names;
  for (const json::value& entry : entries) names.push_back(text_of(entry, "path"));
  std::vector<std::string> chosen = choose_files(names, choice);
  std::sort(chosen.begin(), chosen.end());
  for (const json::value& entry : entries) {
    if (!std::binary_search(chosen.begin(), chosen.end(), text_of(entry, "path"))) continue;
    RemoteFile file = file_of(client, model.commit, entry);
    if (!settings.cache.empty())
      file.copy = settings.cache / cache_name(repository) / "blobs" /
                  (file.sha256.empty() ? file.git_sha1 : file.sha256);
    model.files.push_back(std::move(file));
  }
  model.default_name = default_name(repository, chosen);
  return model;
}

}  // namespace neutrino::weights
