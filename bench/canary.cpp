// What this machine gives right now, for a benchmark to ask between its samples: the rate of float32 multiply-adds, and the
// bandwidth at which all threads together read a working set of a given size.
//
//   canary [--threads 2] [--bytes 96000000] [--milliseconds 100]
//
// Both are averages over the whole time, not bests: a neighbour that takes a core or the memory for a third of it takes a
// third of the figure. Each thread reads its own part of the working set again and again, as a step of decode reads the
// weights. One JSON object: {"threads": 2, "bytes": ..., "fma_gflops": ..., "read_gb_per_s": ...}

#include <fmt/format.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "fma_rate.h"

namespace {

using neutrino::bench::fma_scalars;
using neutrino::bench::fma_vectors;
using Clock = std::chrono::steady_clock;

constexpr size_t kLine = 64;                 // bytes
constexpr size_t kSlice = size_t{64} << 10;  // bytes read between two looks at the clock
constexpr size_t kHugePage = size_t{2} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One load from each cache line is what the memory sees of a read.
uint64_t read_lines(const std::byte* begin, size_t bytes) {
  uint64_t sums[4] = {};
  for (size_t i = 0; i + 4 * kLine <= bytes; i += 4 * kLine)
    for (size_t line = 0; line < 4; ++line)
      sums[line] += *reinterpret_cast<const uint64_t*>(begin + i + line * kLine);
  return sums[0] + sums[1] + sums[2] + sums[3];
}

// On huge pages where the system has them, as weights are; every page written once.
class WorkingSet {
 public:
  explicit WorkingSet(size_t bytes) : bytes_((bytes + kHugePage - 1) / kHugePage * kHugePage) {
    void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    ::madvise(memory, bytes_, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(memory);
    for (size_t i = 0; i < bytes_; i += 4096) data_[i] = std::byte{1};
  }
  ~WorkingSet() { ::munmap(data_, bytes_); }
  WorkingSet(const WorkingSet&) = delete;
  WorkingSet& operator=(const WorkingSet&) = delete;
  const std::byte* data() const { return data_; }

 private:
  size_t bytes_;
  std::byte* data_ = nullptr;
};

// Runs `work(thread)` on all threads from the same moment and adds up what they return.
double sum_over_threads(int threads, const std::function<double(int)>& work) {
  std::vector<double> results(threads);
  std::vector<std::thread> all;
  std::atomic<int> waiting{threads};
  for (int i = 0; i < threads; ++i)
    all.emplace_back([&, i] {
      --waiting;
      while (waiting.load() > 0) {
      }
      results[i] = work(i);
    });
  for (std::thread& one : all) one.join();
  double sum = 0;
  for (const double result : results) sum += result;
  return sum;
}

double fma_gflops(int threads, double seconds) {
  std::atomic<float> sinks{0};
  const bool vectors = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const double rate = sum_over_threads(threads, [&](int thread) {
    float sink = 0;
    double operations = 0;
    const Clock::time_point start = Clock::now();
    while (seconds_since(start) < seconds)
      operations += vectors ? fma_vectors(static_cast<float>(thread), sink) : fma_scalars(1.0f, sink);
    const double elapsed = seconds_since(start);
    sinks.store(sink);  // so that the sums are needed
    return operations / elapsed;
  });
  return rate * 1e-9;
}

double read_gb_per_s(int threads, size_t bytes, double seconds) {
  const WorkingSet set(bytes);
  const size_t part = bytes / threads / kSlice * kSlice;
  std::atomic<uint64_t> sinks{0};
  const double rate = sum_over_threads(threads, [&](int thread) {
    const std::byte* begin = set.data() + part * thread;
    uint64_t sink = read_lines(begin, part);  // not timed: fills what caches it fits in
    size_t offset = 0, total = 0;
    const Clock::time_point start = Clock::now();
    while (seconds_since(start) < seconds) {
      sink += read_lines(begin + offset, kSlice);
      total += kSlice;
      offset = offset + kSlice < part ? offset + kSlice : 0;
    }
    const double elapsed = seconds_since(start);
    sinks.store(sink);
    return static_cast<double>(total) / elapsed;
  });
  return rate * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 2, milliseconds = 100;
  size_t bytes = 96'000'000;
  CLI::App app("What this machine gives right now");
  app.add_option("--threads", threads)->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--bytes", bytes, "working set of the reads")
      ->check(CLI::Range(size_t{1} << 20, size_t{1} << 40))
      ->capture_default_str();
  app.add_option("--milliseconds", milliseconds, "for each of the two figures")
      ->check(CLI::Range(1, 60'000))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const double seconds = 1e-3 * milliseconds;
  const double fma = fma_gflops(threads, seconds);
  const double read = read_gb_per_s(threads, bytes, seconds);
  fmt::print("{{\"threads\": {}, \"bytes\": {}, \"fma_gflops\": {:.1f}, \"read_gb_per_s\": {:.2f}}}\n",
             threads, bytes, fma, read);
}
