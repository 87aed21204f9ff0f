// The requests that are being answered, so that another request can cancel one by its id. io thread only.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <string_view>

namespace neutrino::server {

class ActiveRequests {
 public:
  struct Entry {
    std::string request_id;  // X-Request-Id
    std::string answer_id;   // "chatcmpl-..."
    std::string key_name;    // only the same key may cancel it
    std::function<void()> cancel;
  };

  // Listed as long as this object lives.
  class Listing {
   public:
    Listing(ActiveRequests& active, Entry entry)
        : active_(active), place_(active.entries_.insert(active.entries_.end(), std::move(entry))) {}
    ~Listing() { active_.entries_.erase(place_); }
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;

   private:
    ActiveRequests& active_;
    std::list<Entry>::iterator place_;
  };

  // How many requests of that key and id (of either kind) were cancelled.
  int cancel(std::string_view id, std::string_view key_name) {
    int count = 0;
    for (const Entry& entry : entries_) {
      if ((entry.request_id != id && entry.answer_id != id) || entry.key_name != key_name) continue;
      entry.cancel();
      ++count;
    }
    return count;
  }

 private:
  std::list<Entry> entries_;
};

}  // namespace neutrino::server
