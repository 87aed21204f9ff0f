#include "cli/machine_facts.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "compute/backend.h"

namespace neutrino::cli {
namespace {

// Model, and how many there are: what a figure measured here is good for.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string name = "unknown";
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) name = line.substr(line.find(':') + 1);
  return fmt::format("{} x {} {}", std::thread::hardware_concurrency(), name,
                     compute::available_isas().front());
}

std::optional<double> kept(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  const json::value value = parse_json(read_file(file, 4096));
  if (value.at("processor").as_string() != processor()) return std::nullopt;
  return value.at("memory_bytes_per_second").to_number<double>();
}

}  // namespace

double read_bandwidth(int64_t threads) {
  const size_t words = (size_t{256} << 20) / sizeof(uint64_t);
  const std::vector<uint64_t> data(words, 1);
  std::vector<uint64_t> sums(threads * 8);  // one cache line apart
  const SystemClock clock;
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const int64_t start = clock.now_ns();
    std::vector<std::thread> workers;
    for (int64_t i = 0; i < threads; ++i)
      workers.emplace_back([&, i] {
        const uint64_t* begin = data.data() + words * i / threads;
        const uint64_t* end = data.data() + words * (i + 1) / threads;
        sums[i * 8] += std::accumulate(begin, end, uint64_t{0});
      });
    for (std::thread& worker : workers) worker.join();
    const double seconds = static_cast<double>(clock.now_ns() - start) * 1e-9;
    best = std::max(best, static_cast<double>(words * sizeof(uint64_t)) / seconds);
  }
  return std::accumulate(sums.begin(), sums.end(), uint64_t{0}) == 0 ? 0 : best;  // keeps the sums alive
}

MachineFacts machine_facts(const std::filesystem::path& file) {
  MachineFacts facts{.kernel_table = std::string(compute::available_isas().front())};
  if (const auto known = kept(file)) {
    facts.memory_bytes_per_second = *known;
    return facts;
  }
  facts.memory_bytes_per_second = read_bandwidth(std::thread::hardware_concurrency());
  std::filesystem::create_directories(file.parent_path());
  write_file_atomic(file, to_text(json::object{{"processor", processor()},
                                               {"memory_bytes_per_second", facts.memory_bytes_per_second}}));
  return facts;
}

}  // namespace neutrino::cli
