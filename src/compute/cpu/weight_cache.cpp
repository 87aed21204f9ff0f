#include "compute/cpu/weight_cache.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "base/random.h"

namespace neutrino::compute::cpu {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMagic = 0x3154474957544E00;  // "\0NTWIGT1"
constexpr int64_t kChunk = 1 << 20;              // read, checked and written at once
constexpr std::string_view kSuffix = ".weights";

struct alignas(64) MatrixHeader {
  uint64_t magic = kMagic;
  uint64_t signature = 0;
  uint64_t bytes = 0;
  uint64_t checksum = 0;  // the sum of its chunks' ones
};

// Of 64 bits, eight lanes wide: it shall find a bad disk, not an attacker, and cost nothing beside reading.
uint64_t checksum_of(const uint8_t* bytes, int64_t size, uint64_t seed) {
  constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;
  uint64_t lanes[8];
  for (uint64_t i = 0; i < 8; ++i) lanes[i] = (seed + i) * kPrime;
  for (int64_t at = 0; at < size; at += 64) {
    uint64_t words[8] = {};
    std::memcpy(words, bytes + at, static_cast<size_t>(std::min<int64_t>(64, size - at)));
    for (int i = 0; i < 8; ++i) lanes[i] = std::rotl((lanes[i] ^ words[i]) * kPrime, 29);
  }
  uint64_t sum = 0;
  for (const uint64_t lane : lanes) sum = std::rotl((sum ^ lane) * kPrime, 31);
  return sum;
}

int64_t chunks_of(int64_t bytes) { return ceil_div(bytes, kChunk); }

// f(first byte, bytes) of a chunk.
template <typename F>
void for_chunk(int64_t bytes, int64_t chunk, F f) {
  f(chunk * kChunk, std::min(kChunk, bytes - chunk * kChunk));
}

bool read_all(int fd, void* out, int64_t bytes, int64_t offset) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t got =
        ::pread(fd, static_cast<char*>(out) + done, static_cast<size_t>(bytes - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += got;
  }
  return true;
}

std::string_view as_text(const void* bytes, int64_t size) {
  return {static_cast<const char*>(bytes), static_cast<size_t>(size)};
}

// Makes room for one more.
void remove_oldest(const fs::path& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == kSuffix) files.emplace_back(entry.last_write_time(), entry.path());
  std::ranges::sort(files, std::greater());
  for (size_t i = kWeightCacheFiles - 1; i < files.size(); ++i) fs::remove(files[i].second);
}

}  // namespace

WeightCache::WeightCache(fs::path file) : path_(std::move(file)) {
  if (path_.empty()) return;
  file_ = FileDescriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file_) ::futimens(file_.get(), nullptr);  // used now
}

WeightCache::~WeightCache() {
  constexpr auto kPatience = std::chrono::seconds(2);
  if (!written_.valid() || written_.wait_for(kPatience) == std::future_status::ready) return;
  stopping_ = true;
  written_.wait();
}

bool WeightCache::read(uint64_t signature, std::span<uint8_t> out, ThreadTeam& team) {
  if (!file_) return false;
  if (read_next(signature, out, team)) return true;
  file_ = {};
  std::ranges::fill(out, uint8_t{0});
  return false;
}

bool WeightCache::read_next(uint64_t signature, std::span<uint8_t> out, ThreadTeam& team) {
  MatrixHeader header;
  const int64_t bytes = std::ssize(out), data = offset_ + static_cast<int64_t>(sizeof header);
  if (!read_all(file_.get(), &header, sizeof header, offset_) || header.magic != kMagic ||
      header.signature != signature || header.bytes != static_cast<uint64_t>(bytes))
    return false;
  std::atomic<uint64_t> sum = 0;
  std::atomic<bool> good = true;
  team.run(chunks_of(bytes), [&](int64_t chunk, int64_t) {
    for_chunk(bytes, chunk, [&](int64_t first, int64_t size) {
      if (!read_all(file_.get(), out.data() + first, size, data + first)) good = false;
      sum += checksum_of(out.data() + first, size, static_cast<uint64_t>(chunk));
    });
  });
  offset_ = data + ceil_div(bytes, 64) * 64;
  return good && sum == header.checksum;
}

void WeightCache::keep(uint64_t signature, std::shared_ptr<const uint8_t> data, int64_t bytes) {
  if (!path_.empty()) kept_.push_back({signature, std::move(data), bytes});
}

void WeightCache::write() {
  if (path_.empty() || file_ || kept_.empty()) {
    kept_.clear();
    return;
  }
  written_ = std::async(std::launch::async, [this] {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 10);  // of this thread alone
    try {
      write_file();
    } catch (const std::exception& error) {
      spdlog::warn("the repacked weights are not kept error=\"{}\"", error.what());
    }
    kept_.clear();
  });
}

void WeightCache::write_file() {
  fs::create_directories(path_.parent_path());
  int64_t bytes = 0;
  for (const Kept& matrix : kept_) bytes += matrix.bytes;
  if (const fs::space_info space = fs::space(path_.parent_path());
      space.available < 2 * static_cast<uintmax_t>(bytes))
    throw make_error(ErrorCode::resource_exhausted, "{} has {} bytes free, and twice {} are wanted",
                     path_.parent_path().string(), space.available, bytes);
  remove_oldest(path_.parent_path());
  const fs::path temporary =
      path_.parent_path() / fmt::format(".{}.{:016x}.tmp", path_.filename().string(), system_entropy());
  try {
    const FileDescriptor fd(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) throw system_error("create", temporary);
    for (const Kept& matrix : kept_) write_matrix(fd.get(), matrix, temporary);
    if (stopping_ || ::rename(temporary.c_str(), path_.c_str()) != 0) ::unlink(temporary.c_str());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void WeightCache::write_matrix(int fd, const Kept& matrix, const fs::path& path) {
  MatrixHeader header{.signature = matrix.signature, .bytes = static_cast<uint64_t>(matrix.bytes)};
  const uint8_t* data = matrix.data.get();
  for (int64_t chunk = 0; chunk < chunks_of(matrix.bytes) && !stopping_; ++chunk)
    for_chunk(matrix.bytes, chunk, [&](int64_t first, int64_t size) {
      header.checksum += checksum_of(data + first, size, static_cast<uint64_t>(chunk));
    });
  write_all(fd, as_text(&header, sizeof header), path);
  for (int64_t chunk = 0; chunk < chunks_of(matrix.bytes) && !stopping_; ++chunk)
    for_chunk(matrix.bytes, chunk,
              [&](int64_t first, int64_t size) { write_all(fd, as_text(data + first, size), path); });
  constexpr char kPadding[64] = {};
  write_all(fd, as_text(kPadding, ceil_div(matrix.bytes, 64) * 64 - matrix.bytes), path);
}

}  // namespace neutrino::compute::cpu
