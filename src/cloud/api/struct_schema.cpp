#include "cloud/api/struct_schema.h"

#include <mutex>
#include <set>

namespace neutrino::cloud {

std::string_view keep_text(std::string text) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> kept;
  const std::lock_guard lock(mutex);
  return *kept.insert(std::move(text)).first;
}

}  // namespace neutrino::cloud
