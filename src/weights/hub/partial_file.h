// A download that may be broken off at any byte and goes on from there.
//
//   partial/<id>.part     the bytes, at their places; what is not there yet is a hole
//   partial/<id>.ranges   which bytes are there: a line "bytes etag", then a line "begin end" for each range that came
//   partial/<id>.lock     held by the process that downloads
//
// The id is the content's hash where it is known, so that every pull that needs the same bytes goes on with the same download.
// A line is written after its bytes; a machine that loses power may keep the line and lose the bytes, which the hash finds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace neutrino::weights {

struct ByteRange {
  int64_t begin = 0, end = 0;  // [begin, end)
};

class PartialFile {
 public:
  // Takes the lock; where another process holds it, calls `on_wait` and waits. Throws Error.
  PartialFile(std::filesystem::path folder, std::string id, const std::function<void()>& on_wait);
  ~PartialFile();  // lets go of the lock; the bytes stay
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  const std::string& id() const { return id_; }
  const std::filesystem::path& path() const { return path_; }
  int64_t bytes() const { return bytes_; }  // of the whole file; -1: unknown
  const std::string& etag() const { return etag_; }
  int64_t done() const;  // bytes that are there
  bool is_whole() const { return bytes_ >= 0 && done() == bytes_; }
  // What is missing, in pieces of at most `most` bytes.
  std::vector<ByteRange> missing(int64_t most) const;

  // Starts afresh with nothing but this knowledge.
  void begin(int64_t bytes, std::string etag);
  void forget();
  // Makes it the whole file that `source` is: by a hard link, or by a copy where that cannot be. False: it cannot be read.
  bool adopt(const std::filesystem::path& source);
  void set_whole(int64_t bytes);  // the length of a body that nobody announced, at its end
  void write(int64_t offset, std::string_view bytes);  // any thread, places that do not overlap
  void note(const ByteRange& range);                   // these bytes are written; any thread
  void finish();                                       // the bytes are in the store: nothing is left here

 private:
  std::filesystem::path with(const char* extension) const { return folder_ / (id_ + extension); }
  void take_lock(const std::function<void()>& on_wait);
  void remove_leftovers() const;
  void read_ranges();
  void write_ranges() const;
  void add(ByteRange range);

  std::filesystem::path folder_;
  std::string id_;
  std::filesystem::path path_;
  FileDescriptor lock_, data_, ranges_file_;
  int64_t bytes_ = -1;
  std::string etag_;
  std::vector<ByteRange> ranges_;  // ascending, apart
  mutable std::mutex mutex_;       // of ranges_ and ranges_file_
};

}  // namespace neutrino::weights
