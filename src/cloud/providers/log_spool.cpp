#include "cloud/providers/log_spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSuffix = ".log";
constexpr int kReadAttempts = 20;  // files may be rotated away between the listing and the read

struct SpoolFile {
  int64_t begin = 0;
  fs::path path;
};

std::vector<SpoolFile> spool_files(const fs::path& folder) {
  std::vector<SpoolFile> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.ends_with(kSuffix)) continue;
    SpoolFile file{.path = entry->path()};
    const char* const last = name.data() + name.size() - kSuffix.size();
    const auto [stop, failure] = std::from_chars(name.data(), last, file.begin);
    if (failure == std::errc() && stop == last && file.begin >= 0) files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return files;
}

int64_t size_of(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_size : 0;
}

// Where a negative cursor begins: behind the first line break of the last -cursor bytes.
int64_t begin_of_tail(const SpoolFile& file, int64_t from, int64_t end) {
  const FileDescriptor fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  const int64_t before = std::max(file.begin, from - 1);  // the tail may begin with a whole line
  char text[4096];
  const ssize_t got = fd ? ::pread(fd.get(), text, sizeof text, before - file.begin) : 0;
  const void* line_break = got > 0 ? std::memchr(text, '\n', static_cast<size_t>(got)) : nullptr;
  if (!line_break) return from;
  return std::min(end, before + (static_cast<const char*>(line_break) - text) + 1);
}

}  // namespace

LogSpool::LogSpool(fs::path folder, int64_t file_bytes, int64_t files)
    : folder_(std::move(folder)), file_bytes_(file_bytes), files_(files) {
  check(file_bytes_ > 0 && files_ > 0, "a log needs room");
  std::error_code ignored;
  if (fs::create_directories(folder_, ignored)) fs::permissions(folder_, fs::perms::owner_all, ignored);
  const auto found = spool_files(folder_);
  if (found.empty()) return;
  file_size_ = size_of(found.back().path);
  end_ = found.back().begin + file_size_;
  file_ = FileDescriptor(::open(found.back().path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
}

void LogSpool::append(std::string_view text) {
  if (left_out_ > 0) {
    const std::string note = fmt::format("[neutrino: {} bytes of output could not be kept: {}]\n", left_out_,
                                         std::strerror(error_));
    const int64_t before = left_out_;
    left_out_ = write(note) ? 0 : before;  // a note that did not fit is no output
  }
  write(text);
}

// False: not all of it. What is missing is counted.
bool LogSpool::write(std::string_view text) {
  while (!text.empty()) {
    if ((!file_ || file_size_ >= file_bytes_) && !next_file()) break;
    const auto room = static_cast<size_t>(file_bytes_ - file_size_);
    const ssize_t written = ::write(file_.get(), text.data(), std::min(text.size(), room));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      error_ = errno;
      break;
    }
    text.remove_prefix(static_cast<size_t>(written));
    file_size_ += written;
    end_ += written;
  }
  left_out_ += static_cast<int64_t>(text.size());
  return text.empty();
}

// A file that cannot be made leaves the full one as it is.
bool LogSpool::next_file() {
  const fs::path path = folder_ / fmt::format("{:020}{}", end_, kSuffix);
  FileDescriptor next(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!next) {
    error_ = errno;
    return false;
  }
  file_ = std::move(next);
  file_size_ = size_of(path);
  end_ += file_size_;  // 0, unless somebody else wrote there
  remove_old();
  return true;
}

void LogSpool::remove_old() {
  const auto found = spool_files(folder_);
  std::error_code ignored;
  for (size_t i = 0; i + static_cast<size_t>(files_) < found.size(); ++i) fs::remove(found[i].path, ignored);
}

namespace {

// Text from the one file that holds `cursor`. Nothing: look again, for it is gone by now, or there seems to be a hole before the
// file at `hole`: a listing may miss a file that was made during it, but not one that an earlier listing knew a later one of.
std::optional<LogChunk> read_at(const std::vector<SpoolFile>& files, int64_t cursor, int64_t bytes_max,
                                int64_t& hole) {
  const int64_t end = files.back().begin + size_of(files.back().path);
  LogChunk chunk;
  int64_t from = std::min(cursor, end);
  if (cursor < 0) from = std::max(files.front().begin, end + std::max(cursor, -end));
  chunk.lost_bytes = std::max<int64_t>(0, files.front().begin - from);
  from = std::max(from, files.front().begin);
  const auto behind = std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.begin > from; });
  const SpoolFile& file = *std::prev(behind);
  if (cursor < 0 && from > files.front().begin) from = begin_of_tail(file, from, end);
  const FileDescriptor fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  chunk.text.resize(static_cast<size_t>(bytes_max));
  const ssize_t got = ::pread(fd.get(), chunk.text.data(), chunk.text.size(), from - file.begin);
  if (got < 0) return std::nullopt;
  chunk.text.resize(static_cast<size_t>(got));
  chunk.next = from + got;
  if (got == 0 && behind != files.end()) {  // a hole, as after a power cut: go on behind it
    if (std::exchange(hole, behind->begin) != behind->begin) return std::nullopt;
    chunk.lost_bytes += behind->begin - from;
    chunk.next = behind->begin;
  }
  return chunk;
}

}  // namespace

LogChunk read_log_spool(const fs::path& folder, int64_t cursor, int64_t bytes_max) {
  int64_t hole = -1;
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const auto files = spool_files(folder);
    if (files.empty()) return {.next = 0};
    if (auto chunk = read_at(files, cursor, bytes_max, hole)) return std::move(*chunk);
  }
  throw make_error(ErrorCode::unavailable, "cannot read the log in {}: it is rotated faster than it is read",
                   folder.string());
}

}  // namespace neutrino::cloud
