// Limits of prefixes that are kept on disk (see base/limits.h for all others).
#pragma once

#include <cstdint>

namespace neutrino::limits {

inline constexpr int64_t kPrefixFilesBytes = int64_t{4} << 30;  // of all of them together

}  // namespace neutrino::limits
