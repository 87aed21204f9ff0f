#include "cloud/providers/replica_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/json.h"
#include "base/limits.h"

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr off_t kKeeperByte = 0, kProviderByte = 1;

struct flock lock_of(off_t byte) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

// False: somebody else has it.
bool try_byte(const FileDescriptor& fd, off_t byte, const fs::path& path) {
  struct flock lock = lock_of(byte);
  if (::fcntl(fd.get(), F_SETLK, &lock) == 0) return true;
  if (errno == EACCES || errno == EAGAIN) return false;
  throw system_error("lock", path);
}

void wait_for_byte(const FileDescriptor& fd, off_t byte, const fs::path& path) {
  struct flock lock = lock_of(byte);
  while (::fcntl(fd.get(), F_SETLKW, &lock) != 0)
    if (errno != EINTR) throw system_error("lock", path);
}

}  // namespace

template <typename Record>
std::optional<Record> ReplicaFolder::read(const char* name) const {
  try {
    Record record;
    read_json(record, parse_json(read_file(path_ / name, limits::kReplicaRecordBytes)), Accept::from_storage);
    return record;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::not_found || error.code() == ErrorCode::invalid_argument)
      return std::nullopt;
    throw;
  }
}

template <typename Record>
void ReplicaFolder::write_record(const char* name, const Record& record) const {
  write_file_atomic(path_ / name, to_text(to_json(record, Show::all_fields)) + "\n", 0600);
}

std::optional<SpecRecord> ReplicaFolder::spec() const { return read<SpecRecord>("spec.json"); }
std::optional<StatusRecord> ReplicaFolder::status() const { return read<StatusRecord>("status.json"); }
std::optional<StopRecord> ReplicaFolder::stop() const { return read<StopRecord>("stop.json"); }
void ReplicaFolder::write(const SpecRecord& record) const { write_record("spec.json", record); }
void ReplicaFolder::write(const StatusRecord& record) const { write_record("status.json", record); }
void ReplicaFolder::write(const StopRecord& record) const { write_record("stop.json", record); }

std::optional<ProcessIdentity> ReplicaFolder::keeper() const {
  const FileDescriptor fd(::open((path_ / "lock").c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw system_error("open", path_ / "lock");
  }
  struct flock lock = lock_of(kKeeperByte);
  if (::fcntl(fd.get(), F_GETLK, &lock) != 0) throw system_error("look at the lock", path_ / "lock");
  if (lock.l_type == F_UNLCK) return std::nullopt;
  const auto holder = identify(lock.l_pid);
  struct flock again = lock_of(kKeeperByte);  // the holder may have ended and its pid be another's by now
  if (!holder || ::fcntl(fd.get(), F_GETLK, &again) != 0 || again.l_type == F_UNLCK ||
      again.l_pid != lock.l_pid)
    return std::nullopt;
  return holder;
}

FileDescriptor ReplicaFolder::open_lock() const {
  FileDescriptor fd(::open((path_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd && errno != ENOENT && errno != ENOTDIR) throw system_error("open", path_ / "lock");
  return fd;
}

bool ReplicaFolder::still_named(const FileDescriptor& lock) const {
  struct stat ours {
  }, named{};
  return ::fstat(lock.get(), &ours) == 0 && ::stat((path_ / "lock").c_str(), &named) == 0 &&
         ours.st_ino == named.st_ino;
}

FileDescriptor ReplicaFolder::lock_as_keeper() const {
  FileDescriptor fd = open_lock();
  if (!fd || !try_byte(fd, kKeeperByte, path_)) return {};
  wait_for_byte(fd, kProviderByte, path_);
  return still_named(fd) ? std::move(fd) : FileDescriptor();
}

FileDescriptor ReplicaFolder::lock_as_provider() const {
  FileDescriptor fd = open_lock();
  if (!fd || !try_byte(fd, kProviderByte, path_)) return {};
  return still_named(fd) ? std::move(fd) : FileDescriptor();
}

std::string ReplicaFolder::mark() const { return fmt::format("NEUTRINO_REPLICA={}", path_.string()); }

}  // namespace neutrino::cloud
