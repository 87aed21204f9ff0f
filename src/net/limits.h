// Limits of the network edge that are younger than base/limits.h, in the same namespace: keys, certificates, traces.
#pragma once

#include <cstdint>

#include "base/limits.h"

namespace neutrino::limits {

inline constexpr int64_t kApiKeys = 1000;
inline constexpr int64_t kKeyNameBytes = 64;
inline constexpr int64_t kKeyFileBytes = 1 << 20;
inline constexpr int64_t kPerMinute = 1'000'000'000'000;  // the largest limit that a key may have

inline constexpr int64_t kTlsFileBytes = 1 << 20;
inline constexpr int64_t kTlsCloseMilliseconds = 500;  // for the peer's goodbye

inline constexpr int64_t kTraceSpansQueued = 8192;  // finished, not yet sent
inline constexpr int64_t kTraceSpansPerExport = 512;
inline constexpr int64_t kTraceMillisecondsBetweenExports = 1000;
inline constexpr int64_t kTraceExportSeconds = 10;  // for one POST
inline constexpr int64_t kTraceExportAttempts = 3;

}  // namespace neutrino::limits
