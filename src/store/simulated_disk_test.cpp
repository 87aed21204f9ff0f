// The simulated disk, the functions that stand in for libc's in this program, and tests that it forgets what it should.
#undef _FORTIFY_SOURCE  // its inline open() cannot be replaced
#include "store/testing/simulated_disk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#include <fstream>

#include "base/file.h"
#include "store/testing/test_database.h"

namespace neutrino::store::testing {
namespace {

std::recursive_mutex active_mutex;
SimulatedDisk* active_disk = nullptr;

constexpr int64_t kSectorBytes = 512;

void apply_step(const SimulatedDisk::File::Step& step, std::string& content) {
  if (step.truncates) return content.resize(static_cast<size_t>(step.offset));
  const size_t end = static_cast<size_t>(step.offset) + step.bytes.size();
  if (content.size() < end) content.resize(end);
  content.replace(static_cast<size_t>(step.offset), step.bytes.size(), step.bytes);
}

}  // namespace

SimulatedDisk::SimulatedDisk(const std::filesystem::path& folder, uint64_t seed, int64_t calls_until_cut,
                             std::function<void()> at_cut)
    : folder_(folder.string()), random_(seed), calls_until_cut_(calls_until_cut), at_cut_(std::move(at_cut)) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    auto file = std::make_shared<File>();
    file->durable = read_file(entry.path(), 64 << 20);
    names_.emplace(entry.path().filename().string(), std::move(file));
  }
  durable_names_ = names_;
  const std::lock_guard lock(active_mutex);
  check(active_disk == nullptr, "one simulated disk at a time");
  active_disk = this;
}

SimulatedDisk::~SimulatedDisk() {
  const std::lock_guard lock(active_mutex);
  active_disk = nullptr;
}

SimulatedDisk::Lock SimulatedDisk::lock_active(SimulatedDisk*& disk) {
  Lock lock(active_mutex);
  disk = active_disk;
  return lock;
}

bool SimulatedDisk::is_cut() const {
  const std::lock_guard lock(active_mutex);
  return image_.has_value();
}

int64_t SimulatedDisk::calls() const {
  const std::lock_guard lock(active_mutex);
  return calls_;
}

// In the folder itself; the log's index (-shm) is memory shared by processes, which a cut ends, not a file of the disk.
bool SimulatedDisk::holds(const char* path) const {
  const std::string_view text(path);
  return text == folder_ || (text.starts_with(folder_ + "/") && !text.ends_with("-shm"));
}

void SimulatedDisk::about_to_call() {
  if (++calls_ == calls_until_cut_) cut();
}

void SimulatedDisk::opened(int fd, const char* path, bool existed, bool truncates) {
  if (path == folder_) {
    folder_fd_ = fd;
    return;
  }
  const std::string name = std::filesystem::path(path).filename().string();
  FilePointer& file = names_[name];
  if (!existed || !file) {
    file = std::make_shared<File>();
    name_steps_.push_back({name, file});
  }
  files_by_fd_[fd] = file;
  if (truncates) truncated(fd, 0);
}

void SimulatedDisk::closed(int fd) {
  files_by_fd_.erase(fd);
  if (fd == folder_fd_) folder_fd_ = -1;
}

void SimulatedDisk::wrote(int fd, int64_t offset, std::string bytes) {
  if (const auto found = files_by_fd_.find(fd); found != files_by_fd_.end())
    found->second->steps.push_back({.offset = offset, .bytes = std::move(bytes)});
}

void SimulatedDisk::truncated(int fd, int64_t size) {
  if (const auto found = files_by_fd_.find(fd); found != files_by_fd_.end())
    found->second->steps.push_back({.truncates = true, .offset = size});
}

void SimulatedDisk::synced(int fd) {
  if (fd == folder_fd_) {
    name_steps_.clear();
    durable_names_ = names_;
  } else if (const auto found = files_by_fd_.find(fd); found != files_by_fd_.end()) {
    File& file = *found->second;
    for (const File::Step& step : file.steps) apply_step(step, file.durable);
    file.steps.clear();
  }
}

void SimulatedDisk::unlinked(const char* path) {
  const std::string name = std::filesystem::path(path).filename().string();
  names_.erase(name);
  name_steps_.push_back({name, nullptr});
}

void SimulatedDisk::renamed(const char* from, const char* to) {
  const std::string name = std::filesystem::path(to).filename().string();
  const auto found = names_.find(std::filesystem::path(from).filename().string());
  if (found == names_.end()) return;
  const FilePointer file = found->second;
  unlinked(from);
  names_[name] = file;
  name_steps_.push_back({name, file});
}

// Half of the cuts lose all that was not durable; the others keep some of it.
void SimulatedDisk::cut() {
  if (image_) return;
  const bool keeps_some = random_.chance(0.5);
  std::map<std::string, FilePointer> names = durable_names_;
  const int64_t kept = keeps_some ? random_.below(std::ssize(name_steps_) + 1) : 0;
  for (int64_t i = 0; i < kept; ++i) {
    const NameStep& step = name_steps_[static_cast<size_t>(i)];
    if (step.file)
      names[step.name] = step.file;
    else
      names.erase(step.name);
  }
  image_.emplace();
  for (const auto& [name, file] : names) image_->emplace(name, image_of(*file, keeps_some));
  at_cut_();
}

std::string SimulatedDisk::image_of(const File& file, bool keeps_some) {
  std::string content = file.durable;
  for (File::Step step : file.steps) {
    if (!keeps_some || random_.chance(0.5)) continue;
    const int64_t sectors = std::ssize(step.bytes) / kSectorBytes;
    if (sectors > 0 && random_.chance(0.3))
      step.bytes.resize(static_cast<size_t>(random_.below(sectors) * kSectorBytes));
    apply_step(step, content);
  }
  return content;
}

void SimulatedDisk::write_image(const std::filesystem::path& folder) {
  {
    const std::lock_guard lock(active_mutex);
    cut();
  }
  std::filesystem::create_directories(folder);
  for (const auto& [name, content] : *image_) std::ofstream(folder / name, std::ios::binary) << content;
}

namespace {

TEST(SimulatedDisk, keeps_what_was_synced_and_nothing_else_for_sure) {
  int kept_unsynced = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const TemporaryFolder folder, after;
    {
      SimulatedDisk disk(folder.path(), seed, INT64_MAX);
      const auto make = [&](const char* name, std::string_view content) {
        FileDescriptor fd(open((folder.path() / name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
        write_all(fd.get(), content, name);
        return fd;
      };
      const FileDescriptor synced = make("synced", "old"), unsynced = make("unsynced", "lost");
      fsync(synced.get());
      sync_folder(folder.path());
      EXPECT_EQ(pwrite(synced.get(), "new", 3, 0), 3);
      const FileDescriptor nameless = make("nameless", "x");
      fsync(nameless.get());
      disk.write_image(after.path());
    }
    const std::string synced = read_file(after.path() / "synced", 100);
    EXPECT_TRUE(synced == "old" || synced == "new") << synced;
    EXPECT_TRUE(std::filesystem::exists(after.path() / "unsynced"));
    kept_unsynced += synced == "new" || std::filesystem::exists(after.path() / "nameless");
  }
  EXPECT_GT(kept_unsynced, 5);   // a disk may write by itself
  EXPECT_LT(kept_unsynced, 35);  // and may not
}

TEST(SimulatedDisk, an_atomic_write_leaves_the_old_or_the_new_at_every_cut) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "settings";
  write_file_atomic(path, "old");
  int64_t calls = 0;
  {
    SimulatedDisk disk(folder.path(), 1, INT64_MAX);
    write_file_atomic(path, "new");
    calls = disk.calls();
  }
  EXPECT_GE(calls, 4);  // open, write, sync, rename, sync of the folder
  for (uint64_t seed = 0; seed < 10; ++seed)
    for (int64_t cut = 1; cut <= calls + 1; ++cut) {
      write_file_atomic(path, "old");
      const TemporaryFolder after;
      SimulatedDisk disk(folder.path(), seed, cut);
      write_file_atomic(path, "new");
      const bool done = !disk.is_cut();
      disk.write_image(after.path());
      const std::string found = read_file(after.path() / "settings", 100);
      EXPECT_TRUE(found == "new" || (found == "old" && !done)) << found << " cut " << cut;
    }
}

}  // namespace
}  // namespace neutrino::store::testing

// ---- what stands in for libc's functions

using neutrino::store::testing::SimulatedDisk;

namespace {

template <typename Function>
Function* libc(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int open_file(const char* path, int flags, mode_t mode) {
  static auto* const real = libc<int(const char*, int, ...)>("open64");
  SimulatedDisk* disk = nullptr;
  const auto lock = SimulatedDisk::lock_active(disk);
  if (disk == nullptr || !disk->holds(path)) return real(path, flags, mode);
  struct stat status {};
  const bool existed = stat(path, &status) == 0;
  if (!existed || (flags & O_TRUNC) != 0) disk->about_to_call();
  const int fd = real(path, flags, mode);
  if (fd >= 0) disk->opened(fd, path, existed, (flags & O_TRUNC) != 0);
  return fd;
}

// Does a call that changes an open file, and notes it with `note(disk)` if it succeeded.
template <typename Call, typename Note>
auto change_file(int fd, Call call, Note note) -> decltype(call()) {
  SimulatedDisk* disk = nullptr;
  auto lock = SimulatedDisk::lock_active(disk);
  if (disk == nullptr || !disk->knows(fd)) {
    lock.unlock();  // it may be a pipe that nobody reads for a while
    return call();
  }
  disk->about_to_call();
  const auto result = call();
  if (result >= 0) note(*disk, result);
  return result;
}

template <typename Call, typename Note>
int change_name(const char* path, Call call, Note note) {
  SimulatedDisk* disk = nullptr;
  const auto lock = SimulatedDisk::lock_active(disk);
  if (disk == nullptr || !disk->holds(path)) return call();
  disk->about_to_call();
  const int result = call();
  if (result == 0) note(*disk);
  return result;
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

int truncate_file(int fd, off64_t size) {
  static auto* const real = libc<int(int, off64_t)>("ftruncate64");
  return change_file(
      fd, [&] { return real(fd, size); }, [&](SimulatedDisk& disk, int) { disk.truncated(fd, size); });
}

ssize_t write_at(int fd, const void* bytes, size_t size, off64_t offset) {
  static auto* const real = libc<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  return change_file(
      fd, [&] { return real(fd, bytes, size, offset); },
      [&](SimulatedDisk& disk, ssize_t written) {
        disk.wrote(fd, offset, {static_cast<const char*>(bytes), static_cast<size_t>(written)});
      });
}

// Nothing is forced to the machine's own disk, which need not be waited for: what is durable is for the simulated one to say.
int sync_file(int fd) {
  static auto* const real = libc<int(int)>("fdatasync");
  SimulatedDisk* disk = nullptr;
  auto lock = SimulatedDisk::lock_active(disk);
  if (disk == nullptr || !disk->knows(fd)) {
    lock.unlock();
    return real(fd);
  }
  disk->about_to_call();
  disk->synced(fd);
  return 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_file(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_file(path, flags, mode);
}

int close(int fd) {
  static auto* const real = libc<int(int)>("close");
  SimulatedDisk* disk = nullptr;
  const auto lock = SimulatedDisk::lock_active(disk);
  if (disk != nullptr) disk->closed(fd);
  return real(fd);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  static auto* const real = libc<ssize_t(int, const void*, size_t)>("write");
  const off64_t offset = lseek64(fd, 0, SEEK_CUR);
  return change_file(
      fd, [&] { return real(fd, bytes, size); },
      [&](SimulatedDisk& disk, ssize_t written) {
        disk.wrote(fd, offset, {static_cast<const char*>(bytes), static_cast<size_t>(written)});
      });
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  return write_at(fd, bytes, size, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  return write_at(fd, bytes, size, offset);
}
int ftruncate(int fd, off_t size) noexcept { return truncate_file(fd, size); }
int ftruncate64(int fd, off64_t size) noexcept { return truncate_file(fd, size); }
int fsync(int fd) { return sync_file(fd); }
int fdatasync(int fd) { return sync_file(fd); }

int unlink(const char* path) noexcept {
  static auto* const real = libc<int(const char*)>("unlink");
  return change_name(path, [&] { return real(path); }, [&](SimulatedDisk& disk) { disk.unlinked(path); });
}

int rename(const char* from, const char* to) noexcept {
  static auto* const real = libc<int(const char*, const char*)>("rename");
  return change_name(
      from, [&] { return real(from, to); }, [&](SimulatedDisk& disk) { disk.renamed(from, to); });
}
}
