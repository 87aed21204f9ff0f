#include "weights/hub/partial_file.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "weights/store_files.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

bool is_same_file(const FileDescriptor& fd, const fs::path& path) {
  struct stat opened {
  }, named{};
  return ::fstat(fd.get(), &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

// "begin end", as numbers that make sense in a file of `bytes`.
bool parse_range(std::string_view line, int64_t bytes, ByteRange& range) {
  const char* end = line.data() + line.size();
  const auto first = std::from_chars(line.data(), end, range.begin);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != ' ') return false;
  const auto second = std::from_chars(first.ptr + 1, end, range.end);
  return second.ec == std::errc{} && second.ptr == end && range.begin >= 0 && range.begin < range.end &&
         range.end <= bytes;
}

}  // namespace

PartialFile::PartialFile(fs::path folder, std::string id, const std::function<void()>& on_wait)
    : folder_(std::move(folder)), id_(std::move(id)), path_(folder_ / (id_ + ".part")) {
  take_lock(on_wait);
  remove_leftovers();
  read_ranges();
}

PartialFile::~PartialFile() {
  if (lock_) ::unlink(with(".lock").c_str());  // ours; who waits for it notices and makes a new one
}

void PartialFile::take_lock(const std::function<void()>& on_wait) {
  for (bool told = false;;) {
    FileDescriptor fd = open_file(with(".lock"), O_RDWR | O_CREAT | O_NOFOLLOW);
    if (!try_lock(fd, Lock::exclusive)) {
      if (!std::exchange(told, true)) on_wait();
      wait_for_lock(fd, Lock::exclusive, with(".lock"));
    }
    if (!is_same_file(fd, with(".lock"))) continue;
    lock_ = std::move(fd);
    return;
  }
}

// What a process that was killed while it replaced the list of ranges left.
void PartialFile::remove_leftovers() const {
  for (const fs::path& path : files_in(folder_))
    if (path.filename().string().starts_with("." + id_ + ".")) remove_file(path);
}

// Anything that does not fit together counts as nothing. A last line without an end was being written when the process died.
void PartialFile::read_ranges() {
  std::error_code ignored;
  if (!fs::is_regular_file(fs::symlink_status(with(".ranges"), ignored)) ||
      !fs::is_regular_file(fs::symlink_status(path_, ignored)))
    return;
  constexpr size_t kRangesBytesMax = 64 << 20;
  const std::string text = read_file(with(".ranges"), kRangesBytesMax, Links::refuse);
  std::string_view rest = text;
  const auto take_line = [&]() -> std::optional<std::string_view> {
    const auto end = rest.find('\n');
    if (end == rest.npos) return std::nullopt;
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    return line;
  };
  const auto header = take_line();
  if (!header) return;
  int64_t bytes = -1;
  const auto [number_end, failure] = std::from_chars(header->data(), header->data() + header->size(), bytes);
  if (failure != std::errc{} || bytes < 0 || number_end == header->data() + header->size()) return;
  bytes_ = bytes;
  etag_ = std::string(number_end + 1, header->data() + header->size());
  const FileDescriptor data = open_file(path_, O_RDONLY | O_NOFOLLOW);
  const int64_t there = status_of(data, path_).st_size;
  ByteRange range;
  while (const auto line = take_line())
    if (parse_range(*line, std::min(bytes, there), range)) add(range);
  write_ranges();
  if (!is_whole()) data_ = open_file(path_, O_RDWR | O_NOFOLLOW);
}

void PartialFile::write_ranges() const {
  std::string text = fmt::format("{} {}\n", bytes_, etag_);
  for (const ByteRange& range : ranges_) text += fmt::format("{} {}\n", range.begin, range.end);
  write_file_atomic(with(".ranges"), text, 0600);
}

void PartialFile::add(ByteRange range) {
  const auto first =
      std::find_if(ranges_.begin(), ranges_.end(), [&](const ByteRange& r) { return r.end >= range.begin; });
  auto last = first;
  for (; last != ranges_.end() && last->begin <= range.end; ++last) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
  }
  ranges_.insert(ranges_.erase(first, last), range);
}

int64_t PartialFile::done() const {
  const std::lock_guard held(mutex_);
  int64_t sum = 0;
  for (const ByteRange& range : ranges_) sum += range.end - range.begin;
  return sum;
}

std::vector<ByteRange> PartialFile::missing(int64_t most) const {
  const std::lock_guard held(mutex_);
  std::vector<ByteRange> pieces;
  const auto cut = [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += most) pieces.push_back({begin, std::min(end, begin + most)});
  };
  int64_t at = 0;
  for (const ByteRange& range : ranges_) {
    cut(at, range.begin);
    at = range.end;
  }
  cut(at, bytes_);
  return pieces;
}

// The data file is a new one: the old one may be a link to somebody else's.
void PartialFile::begin(int64_t bytes, std::string etag) {
  forget();
  bytes_ = bytes;
  etag_ = std::move(etag);
  data_ = open_file(path_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
  if (bytes < 0) return;  // cannot be gone on with
  write_ranges();
}

void PartialFile::forget() {
  const std::lock_guard held(mutex_);
  remove_file(with(".ranges"));
  remove_file(path_);
  data_ = FileDescriptor();
  ranges_file_ = FileDescriptor();
  ranges_.clear();
  bytes_ = -1;
  etag_.clear();
}

bool PartialFile::adopt(const fs::path& source) {
  const FileDescriptor from(::open(source.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!from) return false;
  const struct stat status = status_of(from, source);
  if (!S_ISREG(status.st_mode)) return false;
  forget();
  const bool linked = status.st_uid == ::geteuid() && ::link(source.c_str(), path_.c_str()) == 0;
  if (!linked) {
    const FileDescriptor to = open_file(path_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (::ioctl(to.get(), FICLONE, from.get()) != 0) {
      require_space(folder_, status.st_size, source.string());
      read_pieces(from, source, {}, [&](std::string_view piece) { write_all(to.get(), piece, path_); });
    }
  }
  set_whole(status.st_size);
  write_ranges();
  return true;
}

void PartialFile::set_whole(int64_t bytes) {
  const std::lock_guard held(mutex_);
  bytes_ = bytes;
  ranges_.clear();
  if (bytes > 0) ranges_.push_back({0, bytes});
}

void PartialFile::write(int64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(data_.get(), bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw system_error("write", path_);
    offset += written;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

void PartialFile::note(const ByteRange& range) {
  if (range.begin >= range.end) return;
  const std::lock_guard held(mutex_);
  add(range);
  if (bytes_ < 0) return;
  if (!ranges_file_) ranges_file_ = open_file(with(".ranges"), O_WRONLY | O_APPEND | O_NOFOLLOW);
  write_all(ranges_file_.get(), fmt::format("{} {}\n", range.begin, range.end), with(".ranges"));
}

void PartialFile::finish() {
  const std::lock_guard held(mutex_);
  remove_file(with(".ranges"));
  remove_file(path_);
  if (lock_) ::unlink(with(".lock").c_str());
  lock_ = FileDescriptor();
}

}  // namespace neutrino::weights
