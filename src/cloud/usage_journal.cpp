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
constexpr int64_t kBlockBytes = 1 << 20;                    // of one look into a segment; a line has far less
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

// Calls take(kind, JSON) for each whole line until it returns false; how many bytes the lines have that it took. A torn last line, of a
// power cut, is left out.
template <typename Take>
int64_t for_each_line(std::string_view text, Take take) {
  size_t at = 0;
  for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', at)) {
    const std::string_view line = text.substr(at, end - at);
    if (line.size() >= 3 && !take(line[0], line.substr(2))) break;
    at = end + 1;
  }
  return static_cast<int64_t>(at);
}

// A line that is damaged says so, and is passed over.
template <typename Use>
void use_line(const std::filesystem::path& path, std::string_view text, Use use) {
  try {
    const json::value line = parse_json(text);
    if (!line.is_object()) throw Error(ErrorCode::data_loss, "it is no object");
    use(line);
  } catch (const std::exception& error) {
    spdlog::error("usage journal: a line is unreadable file={} error=\"{}\"", path.string(), error.what());
  }
}

UsageRecord record_of(const json::value& line) {
  UsageRecord record;
  read_json(record, line, Accept::from_storage);
  return record;
}

int64_t sequence_of(const json::value& line) { return line.get_object().at("sequence").to_number<int64_t>(); }

// At most a block's bytes of a file, up to an offset.
std::string read_block(const std::filesystem::path& path, int64_t from, int64_t to) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw system_error("open", path);
  std::string block(static_cast<size_t>(std::clamp<int64_t>(to - from, 0, kBlockBytes)), '\0');
  const ssize_t got = ::pread(file.get(), block.data(), block.size(), from);
  if (got < 0) throw system_error("read", path);
  block.resize(static_cast<size_t>(got));
  return block;
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
  if (!paths.empty()) sync_file(paths.back());         // the last gateway may have been killed before it did
  std::unordered_map<std::string, std::string> lines;  // of what was begun, by id
  for (const auto& path : paths) {
    sequence_ = std::max(sequence_, first_sequence(path) - 1);
    const std::string text = read_file(path, static_cast<size_t>(2 * limits::kUsageSegmentBytes));
    for_each_line(text, [&](char kind, std::string_view line) {
      use_line(path, line, [&](const json::value& value) {
        const std::string id(value.get_object().at("id").as_string());
        if (kind == 'b') return void(lines.insert_or_assign(id, line));
        sequence_ = std::max(sequence_, sequence_of(value));
        lines.erase(id);
      });
      return true;
    });
  }
  for (const auto& [id, line] : lines)
    use_line(folder_, line, [&](const json::value& value) { open_.emplace(id, record_of(value)); });
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

// Who asks for what follows on what was read last, goes on where that ended.
std::vector<UsageRecord> UsageJournal::read_after(int64_t sequence, size_t most) {
  const std::lock_guard one_reader(reading_);
  const Place end = sync_all();
  const auto paths = segments();
  const bool goes_on = read_upto_ == sequence && std::ranges::find(paths, read_place_.path) != paths.end();
  if (!goes_on) {
    const auto begins_later = [&](const auto& path) { return first_sequence(path) > sequence + 1; };
    const auto later = std::ranges::find_if(paths, begins_later);
    read_place_ = {later == paths.begin() ? paths.front() : *std::prev(later), 0};
  }
  std::vector<UsageRecord> records;
  for (const auto& path : paths) {
    if (path < read_place_.path || path > end.path || records.size() >= most) continue;
    if (path != read_place_.path) read_place_ = {path, 0};
    read_segment(path == end.path ? end.offset : static_cast<int64_t>(std::filesystem::file_size(path)),
                 sequence, most, records);
  }
  read_upto_ = records.empty() ? sequence : records.back().sequence;
  return records;
}

// From the place of reading on.
void UsageJournal::read_segment(int64_t size, int64_t after, size_t most, std::vector<UsageRecord>& records) {
  for (int64_t used = 1; used > 0 && records.size() < most; read_place_.offset += used) {
    const std::string block = read_block(read_place_.path, read_place_.offset, size);
    used = for_each_line(block, [&](char kind, std::string_view line) {
      if (records.size() >= most) return false;
      if (kind == 'e')
        use_line(read_place_.path, line, [&](const json::value& value) {
          if (sequence_of(value) > after) records.push_back(record_of(value));
        });
      return true;
    });
  }
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

void UsageJournal::sync() { sync_all(); }

// Returns where the journal ended then.
UsageJournal::Place UsageJournal::sync_all() {
  std::unique_lock lock(mutex_);
  write_lines();
  const Place end{path_, size_};
  const int64_t wanted = written_;
  if (on_disk_ >= wanted) return end;
  changed_.notify_one();
  synced_.wait(lock, [&] { return on_disk_ >= wanted || stopping_ || !failure_.empty(); });
  if (!failure_.empty()) throw make_error(ErrorCode::data_loss, "{}", failure_);
  return end;
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
