// The limits of adapters: the part of limits.h that few files need.
#pragma once

#include <cstdint>

namespace neutrino::limits {

inline constexpr int64_t kAdapterConfigBytes = 1 << 20;  // adapter_config.json
inline constexpr int64_t kAdapters = 32;                 // --max-loras
inline constexpr int64_t kAdaptersMax = 1024;
inline constexpr int64_t kAdapterRank = 64;  // --max-lora-rank
inline constexpr int64_t kAdapterRankMax = 1024;
inline constexpr int64_t kAdapterBytes = int64_t{1} << 30;  // --lora-memory: of all of them
inline constexpr int64_t kAdapterNameBytes = 128;
inline constexpr int64_t kAdapterPathBytes = 4096;
inline constexpr int64_t kAdapterRefreshSeconds = 30;  // --lora-refresh

}  // namespace neutrino::limits
