// Randomness by counter, not by state.
//
// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps (key, counter) to 128 random bits.
// The engine keys it by a request's seed and counts tokens, so what a request draws does not depend on its neighbours.
#pragma once

#include <array>
#include <cstdint>

namespace neutrino {

class Philox {
 public:
  explicit Philox(uint64_t seed) : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}

  std::array<uint32_t, 4> block(uint64_t counter, uint64_t stream = 0) const {
    std::array<uint32_t, 4> x{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                              static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
    uint32_t k0 = key_[0], k1 = key_[1];
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * x[0], p1 = uint64_t{0xCD9E8D57} * x[2];
      x = {static_cast<uint32_t>(p1 >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(p1),
           static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(p0)};
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    return x;
  }

  // Uniform in [0, 1) with 53 bits.
  double uniform(uint64_t counter, uint64_t stream = 0) const {
    const auto x = block(counter, stream);
    return static_cast<double>(((uint64_t{x[0]} << 32) | x[1]) >> 11) * 0x1.0p-53;
  }

 private:
  std::array<uint32_t, 2> key_;
};

// A sequential generator for tests and simulations: one seed, one run.
class Random {
 public:
  explicit Random(uint64_t seed) : philox_(seed) {}
  uint32_t next() { return index_ == 4 ? refill() : block_[index_++]; }
  int64_t below(int64_t n) {
    return static_cast<int64_t>((uint64_t{next()} * static_cast<uint64_t>(n)) >> 32);
  }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  double uniform() { return next() * 0x1.0p-32; }
  bool chance(double p) { return uniform() < p; }

 private:
  uint32_t refill() {
    block_ = philox_.block(counter_++);
    index_ = 1;
    return block_[0];
  }
  Philox philox_;
  std::array<uint32_t, 4> block_{};
  uint64_t counter_ = 0;
  int index_ = 4;
};

// 64 random bits from the operating system, for seeds nobody asked to choose.
uint64_t system_entropy();

}  // namespace neutrino
