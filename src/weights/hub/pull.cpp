#include "weights/hub/pull.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>

#include "base/checked.h"
#include "base/error.h"
#include "base/fault.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

// What the bytes are, where somebody said it; else where they come from.
std::string partial_id(const RemoteFile& file) {
  if (!file.sha256.empty()) return "sha256-" + file.sha256;
  if (!file.git_sha1.empty()) return "git-" + file.git_sha1;
  return "url-" + to_hex(sha256(file.url.text()));
}

// A GGUF file at a URL of no hub.
RemoteModel look_up_url(const PullRequest& request) {
  const net::Url& url = request.reference.url;
  const std::string path = url.path();
  const std::string name = path.substr(path.rfind('/') + 1);
  if (!name.ends_with(".gguf") || !is_file_name(name))
    throw make_error(ErrorCode::invalid_argument, "the path of {} must end in the name of a .gguf file",
                     url.text().substr(0, url.text().find('?')));
  RemoteModel model{.source = url.text().substr(0, url.text().find('?')),  // a query may hold a signature
                    .default_name = name.substr(0, name.size() - 5)};
  model.files.push_back({.name = name, .url = url});
  if (!request.sha256.empty()) model.files[0].sha256 = BlobDigest::parse(request.sha256).hex();
  model.explain = [](const net::FetchResponse& response, std::string_view what) {
    return make_error(
        response.status == 404 || response.status == 410 ? ErrorCode::not_found : ErrorCode::unavailable,
        "{} (for {})", status_text(response), what);
  };
  return model;
}

// Every hash that is known is the manifest's; without any the source must be the same commit.
enum class Agreement { same, different, open };
Agreement compare(const Manifest& manifest, const RemoteModel& model) {
  std::map<std::string, BlobDigest> there;
  for (const ModelFile& file : manifest.files) there.emplace(file.name, file.digest);
  bool all_known = true;
  for (const RemoteFile& file : model.files) {
    const auto found = there.find(file.name);
    if (manifest.files.size() > 1 && found == there.end()) return Agreement::different;
    const std::string& digest = found == there.end() ? manifest.files[0].digest.hex() : found->second.hex();
    if (!file.sha256.empty() && file.sha256 != digest) return Agreement::different;
    all_known = all_known && !file.sha256.empty();
  }
  if (manifest.files.size() != model.files.size()) return Agreement::different;
  if (all_known || (!model.commit.empty() && manifest.source == model.source)) return Agreement::same;
  return Agreement::open;
}

std::optional<Manifest> already_there(const Store& store, const ModelName& name, const RemoteModel& model) {
  if (!store.has(name)) return std::nullopt;
  Manifest manifest = store.show(name);
  const Agreement agreement = compare(manifest, model);
  if (agreement == Agreement::different)
    throw make_error(ErrorCode::already_exists,
                     "a model named {} with other files is in the store (from {}): remove it first "
                     "(`neutrino model rm {}`) or choose another name with --name",
                     name.text(), manifest.source, name.text());
  if (agreement == Agreement::same && store.is_untouched(manifest)) return manifest;
  return std::nullopt;
}

// One of the model's files on its way: a blob that is there already, or a download.
struct Incoming {
  const RemoteFile* file = nullptr;
  std::unique_ptr<PartialFile> part = {};
  std::optional<FileDescriptor> blob = {};
};

// In the order of their ids, so that two pulls never wait for each other; equal files share one download.
std::map<std::string, Incoming> take_parts(const Store& store, const RemoteModel& model,
                                           PullObserver& observer) {
  std::map<std::string, Incoming> incoming;
  for (const RemoteFile& file : model.files) incoming[partial_id(file)].file = &file;
  for (auto& [id, one] : incoming) {
    const auto on_wait = [&] {
      observer.note(fmt::format("{}: another process is fetching it: waiting", one.file->name));
    };
    one.part = std::make_unique<PartialFile>(store.partial_folder(), id, on_wait);
    if (!one.file->sha256.empty()) one.blob = store.hold_blob(BlobDigest::parse(one.file->sha256));
  }
  return incoming;
}

void require_space_for(const Store& store, const std::map<std::string, Incoming>& incoming) {
  int64_t needed = 0;
  for (const auto& [id, one] : incoming) {
    if (one.blob || one.file->bytes < 0) continue;
    const auto sum = checked_add(needed, one.file->bytes - std::min(one.part->done(), one.file->bytes));
    if (!sum) throw make_error(ErrorCode::data_loss, "the hub's listing names sizes that cannot be");
    needed = *sum;
  }
  require_space(store.partial_folder(), needed, "the download");
}

}  // namespace

RemoteModel look_up(const PullRequest& request, const HubSettings& settings, PullObserver& observer) {
  const Reference& reference = request.reference;
  FileChoice choice = request.choice;
  if (!reference.quant.empty()) choice.quant = reference.quant;
  if (!reference.file.empty()) choice.include.push_back(reference.file);
  switch (reference.kind) {
    case Reference::Kind::hub:
      return look_up_hub(settings, reference.repository, reference.revision, choice, request.download.retries,
                         observer);
    case Reference::Kind::oci:
      return look_up_oci(settings, reference.url, reference.repository, reference.revision, choice,
                         request.download.retries, observer);
    case Reference::Kind::url: return look_up_url(request);
    case Reference::Kind::path: break;
  }
  throw make_error(ErrorCode::invalid_argument, "{} is a path: it is imported", in_quotes(reference.path));
}

ModelName name_for(const PullRequest& request, const RemoteModel& model) {
  if (request.name) return *request.name;
  if (ModelName::is_valid(model.default_name)) return ModelName::parse(model.default_name);
  throw make_error(ErrorCode::invalid_argument, "{} is no name in the store: give one with --name",
                   in_quotes(model.default_name));
}

Manifest pull(Store& store, const PullRequest& request, const RemoteModel& model, PullObserver& observer) {
  const ModelName name = name_for(request, model);
  if (auto manifest = already_there(store, name, model)) return *manifest;
  store.prepare();
  auto incoming = take_parts(store, model, observer);
  if (auto manifest = already_there(store, name, model)) return *manifest;  // another process was faster
  require_space_for(store, incoming);
  std::vector<Incoming*> order;  // small ones first: they are most likely to be what is wrong with a model
  for (auto& [id, one] : incoming) order.push_back(&one);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->file->bytes < b->file->bytes; });
  std::map<std::string, StagedFile> by_id;
  for (Incoming* one : order) {
    const std::string id = one->part->id();
    by_id.emplace(
        id, one->blob ? StagedFile{one->file->name, BlobDigest::parse(one->file->sha256), one->file->bytes}
                      : download(model, *one->file, request.download, *one->part, observer));
    fault_point("pull_file");
  }
  std::vector<StagedFile> staged;
  std::map<std::string, bool> used;
  for (const RemoteFile& file : model.files) {
    StagedFile one = by_id.at(partial_id(file));
    one.name = file.name;
    if (std::exchange(used[partial_id(file)], true))
      one.path.clear();  // the first of equal files brings the blob
    staged.push_back(std::move(one));
  }
  Manifest manifest = store.take(name, staged, {.source = model.source, .license = model.license});
  for (auto& [id, one] : incoming) one.part->finish();
  return manifest;
}

// ---- what was broken off

namespace {

template <typename Use>
Unfinished for_each_unfinished(const Store& store, Use use) {
  Unfinished found;
  for (const fs::path& path : files_in(store.partial_folder())) {
    if (path.extension() != ".part") continue;
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) continue;
    const fs::path lock_path = fs::path(path).replace_extension(".lock");
    const FileDescriptor lock(::open(lock_path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
    if (lock && !try_lock(lock, Lock::exclusive)) continue;  // it goes on
    ++found.files;
    found.bytes += int64_t{status.st_blocks} * 512;
    use(path);
  }
  return found;
}

}  // namespace

Unfinished unfinished_downloads(const Store& store) {
  return for_each_unfinished(store, [](const fs::path&) {});
}

Unfinished remove_unfinished_downloads(const Store& store) {
  return for_each_unfinished(store, [](fs::path path) {
    remove_file(path);
    for (const char* extension : {".ranges", ".lock"}) remove_file(path.replace_extension(extension));
  });
}

}  // namespace neutrino::weights
