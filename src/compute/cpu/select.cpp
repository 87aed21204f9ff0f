#include "compute/cpu/select.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "compute/backend.h"

namespace neutrino::compute {
namespace cpu {
namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_anything() { return true; }

struct Entry {
  std::string_view name;
  const Kernels& kernels;
  bool (*runs_here)();
};

// Best first. A new instruction set is its kernel file and a line here (and its flags in CMakeLists.txt).
constexpr Entry kTables[] = {
    {"avx512", kAvx512Kernels, has_avx512},
    {"avx2", kAvx2Kernels, has_avx2},
    {"generic", kGenericKernels, has_anything},
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

const Kernels& select_kernels(std::string_view name) {
  const char* environment = std::getenv("NEUTRINO_ISA");
  if (name.empty() && environment != nullptr) name = environment;
  for (const Entry& entry : kTables) {
    if (!name.empty() && entry.name != name) continue;
    if (entry.runs_here()) return entry.kernels;
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
