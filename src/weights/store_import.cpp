// How a model gets into the store: its files are copied or downloaded to where nobody looks, checked there as one model, moved to
// blobs/, and only then named.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "base/checked.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/limits.h"
#include "weights/model_files.h"
#include "weights/reader.h"
#include "weights/shard_name.h"
#include "weights/store.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Error name_taken(const ModelName& name) {
  return make_error(
      ErrorCode::already_exists,
      "a model named {} with other bytes is in the store: choose another name or remove it first",
      name.text());
}

}  // namespace

// ---- what a path stands for

namespace {

// A snapshot of the Hugging Face cache, "models--x--y/snapshots/<commit>", is a folder of links to "models--x--y/blobs".
fs::path cache_blobs_of(const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" ? snapshots.parent_path() / "blobs" : fs::path();
}

bool is_below(const fs::path& path, const fs::path& folder) {
  const auto [end, rest] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return !folder.empty() && end == folder.end() && rest != path.end();
}

std::vector<std::string> names_below(const fs::path& folder) {
  constexpr int kDepthMax = 2;  // modules of sentence-transformers stand one below
  std::vector<std::string> names;
  std::error_code failure;
  for (fs::recursive_directory_iterator i(folder, failure), end; !failure && i != end; i.increment(failure)) {
    if (i.depth() + 1 >= kDepthMax || i->path().filename().string().starts_with('.'))
      i.disable_recursion_pending();
    const std::string name = i->path().lexically_relative(folder).generic_string();
    if (!i->is_directory() && is_file_name(name)) names.push_back(name);
    if (static_cast<int64_t>(names.size()) > limits::kModelFiles)
      throw make_error(ErrorCode::invalid_argument, "{} must hold at most {} files", folder.string(),
                       limits::kModelFiles);
  }
  if (failure)
    throw make_error(ErrorCode::unavailable, "cannot read folder {}: {}", folder.string(), failure.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<SourceFile> files_of_folder(const fs::path& given) {
  const fs::path folder = fs::canonical(given);
  std::vector<SourceFile> files;
  for (const std::string& name : checkpoint_files(names_below(folder))) {
    const fs::path target = fs::canonical(folder / name);
    if (!is_below(target, folder) && !is_below(target, cache_blobs_of(folder)))
      throw make_error(ErrorCode::invalid_argument, "{} is a link to {}, which is outside the model's folder",
                       (folder / name).string(), target.string());
    files.push_back({name, target});
  }
  if (files.empty())
    throw make_error(
        ErrorCode::invalid_argument,
        "{} is not a model's folder: config.json and safetensors files were expected (for a GGUF file, "
        "give its own path)",
        given.string());
  return files;
}

}  // namespace

std::vector<SourceFile> files_of_model(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return files_of_folder(path);
  const std::string name = path.filename().string();
  const auto shard = gguf_shard_name(name);
  if (!shard) return {{name, path}};
  std::vector<SourceFile> files;
  for (int64_t part = 1; part <= shard->count; ++part)
    files.push_back({shard->file(part), path.parent_path() / shard->file(part)});
  return files;
}

ModelFacts read_facts(const WeightFile& file, const fs::path& folder) {
  ModelFacts facts = read_facts(file);
  const fs::path card = folder / "README.md";
  constexpr size_t kCardBytesMax = 4 << 20;
  std::error_code ignored;
  if (fs::is_regular_file(card, ignored))
    facts.license = combine(facts.license, read_model_card(read_file(card, kCardBytesMax)));
  return facts;
}

// ---- import

namespace {

// The name that files of a path have inside the model: a lone GGUF file may be called anything outside.
std::string name_inside(const SourceFile& source, const ModelName& model, size_t files) {
  return files == 1 && !is_file_name(source.name) ? model.text() + ".gguf" : source.name;
}

std::string default_name(const fs::path& path, const std::vector<SourceFile>& sources) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return fs::canonical(path).filename().string();
  const auto shard = gguf_shard_name(sources[0].name);
  return shard ? shard->stem : path.stem().string();
}

int64_t size_of(const SourceFile& source) {
  const FileDescriptor fd = open_file(source.path, O_RDONLY);
  require_regular(fd, source.path);
  return status_of(fd, source.path).st_size;
}

int64_t sum_of_sizes(const std::vector<SourceFile>& sources) {
  int64_t sum = 0;
  for (const SourceFile& source : sources) {
    const auto more = checked_add(sum, size_of(source));
    if (!more) throw make_error(ErrorCode::invalid_argument, "the files are too large");
    sum = *more;
  }
  return sum;
}

// The progress of one file within that of all.
Progress shifted(const Progress& progress, int64_t before, int64_t total) {
  if (!progress) return {};
  return [&progress, before, total](int64_t done, int64_t) { progress(before + done, total); };
}

BlobDigest copy_and_hash(const fs::path& source, const FileDescriptor& to, const fs::path& copy,
                         const Progress& progress) {
  const FileDescriptor from = open_file(source, O_RDONLY);
  require_regular(from, source);
  Sha256 hash;
  read_pieces(from, source, progress, [&](std::string_view piece) {
    hash.update(piece);
    write_all(to.get(), piece, copy);
    fault_point("store_copy");
  });
  return BlobDigest(hash.finish());
}

// The structure and the vocabulary hold together; refused here, a model never gets into the store.
void check_weights(const fs::path& path) { open_weight_file(path)->vocabulary(); }

}  // namespace

Manifest Store::import(const fs::path& path, const ImportOptions& options) {
  check_weights(path);
  const std::vector<SourceFile> sources = files_of_model(path);
  const ModelName name = options.name ? *options.name : ModelName::parse(default_name(path, sources));
  const int64_t total = sum_of_sizes(sources);
  prepare();
  if (has(name)) {
    std::vector<ModelFile> there;
    int64_t before = 0;
    for (const SourceFile& source : sources) {
      const FileDescriptor fd = open_file(source.path, O_RDONLY);
      there.push_back({name_inside(source, name, sources.size()),
                       hash_file(fd, source.path, shifted(options.progress, before, total)),
                       status_of(fd, source.path).st_size});
      before += there.back().bytes;
    }
    if (auto same = find_same(make_manifest(name, std::move(there)))) return *same;
  }
  require_space(folder_, total, path.string());
  std::vector<std::unique_ptr<TemporaryEntry>> copies;
  std::vector<StagedFile> staged;
  int64_t before = 0;
  for (const SourceFile& source : sources) {
    TemporaryEntry& copy = *copies.emplace_back(
        std::make_unique<TemporaryEntry>(folder_ / "tmp", "import-", TemporaryEntry::Kind::file));
    const BlobDigest digest =
        copy_and_hash(source.path, copy.fd(), copy.path(), shifted(options.progress, before, total));
    const int64_t bytes = status_of(copy.fd(), copy.path()).st_size;
    staged.push_back({name_inside(source, name, sources.size()), digest, bytes, copy.path(), &copy.fd()});
    before += bytes;
  }
  fault_point("store_copied");
  return take(name, staged,
              {.source = options.source.empty() ? fs::absolute(path).string() : options.source});
}

// The manifest that is there already if it stands for the same files, and they are whole. Throws if it stands for others.
std::optional<Manifest> Store::find_same(const Manifest& wanted) const {
  const Manifest manifest = show(wanted.name);
  if (manifest.digest != wanted.digest) throw name_taken(wanted.name);
  for (const ModelFile& file : manifest.files)
    if (!hold_blob(file.digest)) return std::nullopt;  // the weights were lost or damaged: import heals them
  return manifest;
}

std::optional<FileDescriptor> Store::hold_blob(const BlobDigest& digest) const {
  const fs::path path = blob_path(digest);
  FileDescriptor blob(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!blob || !try_lock(blob, Lock::shared) || status_of(blob, path).st_nlink == 0) return std::nullopt;
  require_regular(blob, path);
  if (hash_file(blob, path, {}) != digest) return std::nullopt;
  return blob;
}

// ---- taking staged files

namespace {

// A folder in which each file stands under its name, as a link to `target(file)`.
template <typename Files, typename Target>
void link_files(const fs::path& folder, const Files& files, Target target) {
  for (const auto& file : files) {
    const fs::path link = folder / file.name;
    make_folders(link.parent_path());
    if (::symlink(target(file).c_str(), link.c_str()) != 0) throw system_error("link", link);
  }
}

std::vector<std::string> names_of(const auto& files) {
  std::vector<std::string> names;
  for (const auto& file : files) names.push_back(file.name);
  return names;
}

}  // namespace

// Opens the files as the one model that they are said to be, before they have a place in the store.
ModelFacts Store::check_staged(const std::vector<StagedFile>& files) const {
  const auto place = [&](const StagedFile& file) {
    return fs::absolute(file.path.empty() ? blob_path(file.digest) : file.path);
  };
  if (files.size() == 1) {
    const auto file = open_weight_file(place(files[0]), Links::refuse);
    file->vocabulary();
    return read_facts(*file);
  }
  const TemporaryEntry view(folder_ / "tmp", "import-", TemporaryEntry::Kind::folder);
  link_files(view.path(), files, place);
  const std::string main = main_file(names_of(files));
  const auto file = open_weight_file(main.empty() ? view.path() : view.path() / main);
  file->vocabulary();
  return read_facts(*file, view.path());
}

Manifest Store::take(const ModelName& name, const std::vector<StagedFile>& files,
                     const TakeOptions& options) {
  std::vector<ModelFile> entries;
  for (const StagedFile& file : files) {
    entries.push_back({file.name, file.digest, file.bytes});
    if (file.path.empty()) continue;
    const FileDescriptor fd = open_file(file.path, O_RDONLY | O_NOFOLLOW);
    if (::fchmod(fd.get(), 0444) != 0) throw system_error("change the mode of", file.path);
    sync_file(fd, file.path);
  }
  Manifest manifest = make_manifest(name, std::move(entries));
  manifest.facts = check_staged(files);
  manifest.facts.license = combine(manifest.facts.license, options.license);
  manifest.source = printable(options.source, 4096);
  manifest.created = utc_now();
  return publish(files, std::move(manifest));
}

// Under the store's lock, so that no blob is removed as unnamed before its manifest is there.
Manifest Store::publish(const std::vector<StagedFile>& files, Manifest manifest) const {
  const FileDescriptor held = lock();
  if (has(manifest.name) && show(manifest.name).digest != manifest.digest) throw name_taken(manifest.name);
  for (const StagedFile& file : files) {
    if (file.path.empty()) continue;
    if (hold_blob(file.digest))
      remove_file(file.path);
    else
      rename_file(file.path, blob_path(file.digest));
    if (file.lock) *file.lock = FileDescriptor();
  }
  fault_point("store_renamed");
  sync_folder(folder_ / "blobs");
  for (ModelFile& file : manifest.files) {
    const fs::path blob = blob_path(file.digest);
    file.verified = blob_state(status_of(open_file(blob, O_RDONLY | O_NOFOLLOW), blob));
  }
  if (manifest.files.size() > 1) make_view(manifest);
  write_manifest(manifest);
  fault_point("store_published");
  return manifest;
}

void Store::write_manifest(const Manifest& manifest) const {
  write_file_atomic(manifest_path(manifest.name), to_text(to_json(manifest)) + "\n");
}

// ---- views

namespace {

// "../../blobs/sha256-..." from the folder that the file stands in.
fs::path link_target(const ModelFile& file) {
  fs::path up = "../..";
  for (auto slash = file.name.find('/'); slash != file.name.npos; slash = file.name.find('/', slash + 1))
    up /= "..";
  return up / "blobs" / ("sha256-" + file.digest.hex());
}

bool is_view(const fs::path& folder, const Manifest& manifest) {
  if (!fs::is_directory(fs::symlink_status(folder))) return false;
  size_t entries = 0;
  std::error_code failure;
  for (fs::recursive_directory_iterator i(folder, failure), end; !failure && i != end; i.increment(failure))
    entries += !i->is_directory() || i->is_symlink();
  return !failure && entries == manifest.files.size() &&
         std::all_of(manifest.files.begin(), manifest.files.end(), [&](const ModelFile& file) {
           std::error_code none;
           return fs::read_symlink(folder / file.name, none) == link_target(file);
         });
}

}  // namespace

// Made aside and renamed into place: a reader sees all of it or nothing. Under the store's lock.
void Store::make_view(const Manifest& manifest) const {
  const fs::path place = view_path(manifest.digest);
  if (is_view(place, manifest)) return;
  make_folders(place.parent_path());
  make_folders(folder_ / "tmp");
  TemporaryEntry view(folder_ / "tmp", "import-", TemporaryEntry::Kind::folder);
  link_files(view.path(), manifest.files, link_target);
  remove_view(manifest.digest);  // something else is there, or it is not whole
  rename_file(view.path(), place);
  view.keep();
}

void Store::remove_view(const BlobDigest& digest) const {
  std::error_code ignored;
  fs::remove_all(view_path(digest), ignored);
}

// What open_weight_file() takes: the only blob, or in the view the folder or its main file.
fs::path Store::open_path(const Manifest& manifest) const {
  if (manifest.files.size() == 1) return blob_path(manifest.files[0].digest);
  const fs::path view = view_path(manifest.digest);
  if (!is_view(view, manifest)) {
    const FileDescriptor held = lock();
    make_view(manifest);
  }
  const std::string main = main_file(names_of(manifest.files));
  return main.empty() ? view : view / main;
}

}  // namespace neutrino::weights
