// Bytes that were received and not used yet. Room for the next read is not cleared first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace neutrino::net {

class ReadBuffer {
 public:
  std::string_view unread() const { return {bytes_.get() + begin_, end_ - begin_}; }
  void consume(size_t bytes) {
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  // Where a read may put up to `bytes`; what unread() gave before is no longer valid. Then received() says how many came.
  char* room(size_t bytes) {
    const size_t kept = end_ - begin_;
    if (capacity_ < kept + bytes) {
      capacity_ = std::max(kept + bytes, 2 * kept);
      auto larger = std::make_unique_for_overwrite<char[]>(capacity_);
      if (kept > 0) std::memcpy(larger.get(), bytes_.get() + begin_, kept);
      bytes_ = std::move(larger);
    } else if (begin_ > 0) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, kept);
    }
    begin_ = 0, end_ = kept;
    return bytes_.get() + end_;
  }
  void received(size_t bytes) { end_ += bytes; }

 private:
  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace neutrino::net
