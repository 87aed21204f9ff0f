#include "cloud/usage_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <type_traits>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

constexpr auto kSyncPause = std::chrono::milliseconds(10);  // what comes meanwhile shares the next sync
constexpr std::string_view kPrefix = "usage-", kSuffix = ".jsonl";

// Plain text as it is; else through the JSON library, without what is not UTF-8: a line must be readable whatever a client sent.
void append_text(std::string& line, std::string_view text) {
  text = text.substr(0, static_cast<size_t>(limits::kUsageTextBytes));
  const bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
  });
  if (plain) {
    line.append("\"").append(text).append("\"");
    return;
  }
  std::string ascii(text);
  std::replace_if(ascii.begin(), ascii.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  line += to_text(json::value(json::string(ascii)));
}

// By hand: this is a tenth of what a small request costs when it goes through a JSON value.
void append_line(std::string& line, char kind, const UsageRecord& record) {
  line += kind;
  line += ' ';
  char comma = '{';
  for_each_field(record, [&](const auto& field, const auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    line.append(1, comma).append("\"").append(field.name).append("\":");
    comma = ',';
    if constexpr (std::is_same_v<T, std::string>)
      append_text(line, value);
    else if constexpr (std::is_same_v<T, bool>)
      line.append(value ? "true" : "false");
    else
      line.append(fmt::format_int(value).c_str());
  });
  line.append("}\n");
}

// Calls take(kind, record) for each whole line; a torn last line, of a power cut, is left out.
template <typename Take>
void read_segment(const std::filesystem::path& path, Take take) {
  const std::string text = read_file(path, static_cast<size_t>(2 * limits::kUsageSegmentBytes));
  size_t at = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', at)) {
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    try {
      UsageRecord record;
      if (line.size() < 3) continue;
      read_json(record, parse_json(line.substr(2)), Accept::from_storage);
      take(line[0], std::move(record));
    } catch (const Error& error) {
      spdlog::error("usage journal: a line is unreadable file={} error=\"{}\"", path.string(),
                    error.message());
    }
  }
}

// The folder's name for all time.
std::string read_or_make_id(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "id";
  if (!std::filesystem::exists(path)) write_file_atomic(path, fmt::format("gw-{:016x}", system_entropy()));
  return read_file(path, 64);
}

void sync_file(const std::filesystem::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file || ::fdatasync(file.get()) != 0) throw system_error("sync", path);
}

int64_t first_sequence(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  int64_t number = 0;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), number);
  return number;
}

}  // namespace

UsageJournal::UsageJournal(std::filesystem::path folder) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
  id_ = read_or_make_id(folder_);
  recover();
  thread_ = std::thread([this] { sync_loop(); });
}

UsageJournal::~UsageJournal() {
  {
    const std::lock_guard lock(mutex_);
    write_lines();
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::vector<std::filesystem::path> UsageJournal::segments() const {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void UsageJournal::recover() {
  const auto paths = segments();
  if (!paths.empty()) sync_file(paths.back());  // the last gateway may have been killed before it did
  for (const auto& path : paths) {
    sequence_ = std::max(sequence_, first_sequence(path) - 1);
    read_segment(path, [&](char kind, UsageRecord record) {
      if (kind == 'b') {
        open_.insert_or_assign(record.id, std::move(record));
      } else {
        sequence_ = std::max(sequence_, record.sequence);
        open_.erase(record.id);
      }
    });
  }
  open_segment();
  const std::unordered_map<std::string, UsageRecord> lost = std::exchange(open_, {});
  for (auto [id, begun] : lost) {
    begun.cost = cost_of(begun);
    record(std::move(begun));
  }
  if (!lost.empty()) spdlog::warn("requests ended with the last gateway count={}", lost.size());
}

// Requests under way are begun anew in it, so that a segment can be removed by its sequence numbers alone.
void UsageJournal::open_segment() {
  path_ = folder_ / fmt::format("{}{:020}{}", kPrefix, sequence_ + 1, kSuffix);
  file_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file_) throw system_error("open", path_);
  sync_folder(folder_);
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) throw system_error("read", path_);
  size_ = status.st_size;
  lines_.clear();                // they are about the requests in `open_`
  if (size_ > 0) lines_ = "\n";  // ends a torn line
  for (const auto& [id, begun] : open_) append_line(lines_, 'b', begun);
  write_lines();
}

void UsageJournal::write_lines() {
  if (lines_.empty()) return;
  write_all(file_.get(), lines_, path_);
  size_ += static_cast<int64_t>(lines_.size());
  lines_.clear();
  ++written_;
}

void UsageJournal::begin(const UsageRecord& record) {
  const std::lock_guard lock(mutex_);
  append_line(lines_, 'b', record);
  open_.insert_or_assign(record.id, record);
}

void UsageJournal::flush() {
  const std::lock_guard lock(mutex_);
  write_lines();
}

int64_t UsageJournal::record(UsageRecord record) {
  const std::lock_guard lock(mutex_);
  record.sequence = sequence_ + 1;
  open_.erase(record.id);
  append_line(lines_, 'e', record);
  write_lines();
  ++sequence_;
  if (size_ >= limits::kUsageSegmentBytes) {
    ::fdatasync(file_.get());
    open_segment();
  }
  if (idle_) changed_.notify_one();
  return sequence_;
}

std::vector<UsageRecord> UsageJournal::read_after(int64_t sequence, size_t most) {
  sync();
  std::vector<UsageRecord> records;
  const auto paths = segments();
  for (size_t i = 0; i < paths.size() && records.size() < most; ++i) {
    if (i + 1 < paths.size() && first_sequence(paths[i + 1]) <= sequence + 1) continue;
    read_segment(paths[i], [&](char kind, UsageRecord record) {
      if (kind == 'e' && record.sequence > sequence && records.size() < most)
        records.push_back(std::move(record));
    });
  }
  return records;
}

void UsageJournal::forget(int64_t sequence) {
  const std::lock_guard lock(mutex_);
  const auto paths = segments();
  for (size_t i = 0; i + 1 < paths.size(); ++i)
    if (first_sequence(paths[i + 1]) <= sequence + 1 && paths[i] != path_) std::filesystem::remove(paths[i]);
}

int64_t UsageJournal::last_sequence() const {
  const std::lock_guard lock(mutex_);
  return sequence_;
}

void UsageJournal::sync() {
  std::unique_lock lock(mutex_);
  write_lines();
  const int64_t wanted = written_;
  if (on_disk_ >= wanted) return;
  changed_.notify_one();
  synced_.wait(lock, [&] { return on_disk_ >= wanted || stopping_ || !failure_.empty(); });
  if (!failure_.empty()) throw make_error(ErrorCode::data_loss, "{}", failure_);
}

// The descriptor is duplicated, so that neither a new segment nor a writer waits for the disk.
void UsageJournal::sync_loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_ || on_disk_ < written_) {
    idle_ = true;
    changed_.wait_for(lock, std::chrono::seconds(1), [&] { return stopping_ || on_disk_ < written_; });
    idle_ = false;
    if (on_disk_ == written_) continue;
    const int64_t upto = written_;
    const FileDescriptor copy(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0));
    lock.unlock();
    const bool good = ::fdatasync(copy.get()) == 0;
    if (!stopping_) std::this_thread::sleep_for(kSyncPause);
    lock.lock();
    failure_ = good ? "" : "cannot sync the usage journal " + path_.string();
    if (!good) spdlog::error("{}", failure_);
    on_disk_ = upto;
    synced_.notify_all();
  }
}

}  // namespace neutrino::cloud
