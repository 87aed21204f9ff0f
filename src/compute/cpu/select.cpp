#include "compute/cpu/select.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "compute/backend.h"
#include "compute/cpu/tiles.h"

namespace neutrino::compute {
namespace cpu {
namespace {

// Bits of CPUID whose names not every compiler's __builtin_cpu_supports() knows (Intel SDM volume 2A, CPUID).
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 29 & 1;
}
bool has_tiles() {
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBf16 = 1u << 22, kAll = kTile | kInt8 | kBf16;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & kAll) == kAll;
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
bool has_anything() { return true; }

// Linux gives a process the eight kilobytes of tile registers only on request, once, for all its threads, and only where it
// saves them.
bool request_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

const Kernels& amx_kernels() {
  static const Kernels table = with_tiles(kAmxTiles);
  return table;
}

// No table is trusted here that gives other bits than AVX-512's: this one was written without such a CPU at hand.
bool has_amx() {
  static const bool usable = [] {
    if (!has_avx512() || !has_tiles() || !request_tiles()) return false;
    if (same_products(amx_kernels(), kAvx512Kernels) && same_attention(amx_kernels(), kAvx512Kernels))
      return true;
    spdlog::warn("kernel table amx gives wrong results on this CPU: avx512 is used");
    return false;
  }();
  return usable;
}

struct Entry {
  std::string_view name;
  const Kernels& (*kernels)();
  bool (*runs_here)();
};

// Best first. A new instruction set is its kernel file and a line here (and its flags in CMakeLists.txt).
constexpr Entry kTables[] = {
    {"amx", amx_kernels, has_amx},
    {"avx512", []() -> const Kernels& { return kAvx512Kernels; }, has_avx512},
    {"avx2", []() -> const Kernels& { return kAvx2Kernels; }, has_avx2},
    {"generic", []() -> const Kernels& { return kGenericKernels; }, has_anything},
};

std::vector<std::string_view> find_available() {
  std::vector<std::string_view> names;
  for (const Entry& entry : kTables)
    if (entry.runs_here()) names.push_back(entry.name);
  return names;
}

std::string list_available() {
  std::string list;
  for (const std::string_view name : available_isas()) list.append(list.empty() ? "" : ", ").append(name);
  return list;
}

}  // namespace

Kernels with_tiles(const TileKernels& tiles) {
  Kernels table = kAvx512Kernels;
  table.name = tiles.name;
  table.quantize = tiles.quantize;
  table.nibble_panels = tiles.nibble_panels;
  table.five_panels = tiles.five_panels;
  table.word_panels = tiles.word_panels;
  table.attend = tiles.attend;
  table.planes = true;
  table.attention_heads_min = kTileRows;
  table.product_work_bytes = tiles.product_work_bytes;
  return table;
}

const Kernels& select_kernels(std::string_view name) {
  const char* environment = std::getenv("NEUTRINO_ISA");
  if (name.empty() && environment != nullptr) name = environment;
  for (const Entry& entry : kTables) {
    if (!name.empty() && entry.name != name) continue;
    if (entry.runs_here()) return entry.kernels();
    if (!name.empty())
      throw make_error(ErrorCode::failed_precondition,
                       "this CPU cannot run the kernel table \"{}\"; it has {}", name, list_available());
  }
  throw make_error(ErrorCode::invalid_argument, "unknown kernel table \"{:.32}\"; this CPU has {}", name,
                   list_available());
}

}  // namespace cpu

std::span<const std::string_view> available_isas() {
  static const std::vector<std::string_view> names = cpu::find_available();
  return names;
}

}  // namespace neutrino::compute
