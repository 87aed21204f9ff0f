#include "compute/cpu/weight_cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/sha256.h"
#include "compute/cpu/repack.h"
#include "compute/test_support.h"

namespace neutrino::compute::cpu {
namespace {

namespace fs = std::filesystem;

class WeightCacheTest : public ::testing::Test {
 protected:
  WeightCacheTest() { fs::create_directories(folder_); }
  ~WeightCacheTest() override { fs::remove_all(folder_); }

  // A product with a q4_1 and a bf16 matrix of this seed, loaded with the cache.
  std::vector<float> product(uint64_t seed, int64_t columns = 96) {
    const auto backend = make_cpu_backend({.threads = 2, .weight_cache = path_});
    backend->reserve(1 << 20);
    backend->begin_step({});
    const auto first = testing::random_matrix(DType::q4_1, 70, columns, seed),
               second = testing::random_matrix(DType::bf16, 33, columns, seed + 1);
    const auto a = backend->load_matrix({&first.view, 1}), b = backend->load_matrix({&second.view, 1});
    backend->loaded();
    std::vector<float> x = testing::random_floats(3 * columns, 9);
    const Activation rows = backend->activation(testing::view_of(x, 3, columns));
    std::vector<float> out = testing::copy(backend->matmul(rows, *a));
    const std::vector<float> more = testing::copy(backend->matmul(rows, *b));
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  std::vector<float> uncached(uint64_t seed) {
    const fs::path path = std::exchange(path_, fs::path());
    auto out = product(seed);
    path_ = path;
    return out;
  }
  std::string contents() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void flip_byte(int64_t at) {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const auto byte = static_cast<char>(file.get() ^ 4);
    file.seekp(at);
    file.put(byte);
  }

  fs::path folder_ = fs::path(::testing::TempDir()) / "weight_cache";
  fs::path path_ = folder_ / "model.weights";
};

TEST_F(WeightCacheTest, TheSecondLoadReadsWhatTheFirstMade) {
  const auto made = product(1);
  ASSERT_TRUE(fs::exists(path_));
  EXPECT_TRUE(testing::same_bits(made, uncached(1)));
  EXPECT_FALSE(testing::same_bits(made, uncached(5)));
  EXPECT_TRUE(testing::same_bits(product(5), made)) << "other weights, but the cache goes by its name";
}

TEST_F(WeightCacheTest, WhatDoesNotFitIsMadeAfreshAndWrittenAnew) {
  const auto expected = uncached(7);
  product(1);
  const auto size = static_cast<int64_t>(fs::file_size(path_));
  // Headers and data of both matrices, the middle, the end.
  for (const int64_t at :
       {int64_t{1}, int64_t{9}, int64_t{17}, int64_t{25}, int64_t{64}, size / 2, size - 65}) {
    fs::remove(path_);
    product(7);
    flip_byte(at);
    const auto first = product(7);
    EXPECT_TRUE(testing::same_bits(first, expected)) << "byte " << at;
  }
  for (const int64_t bytes : {int64_t{0}, int64_t{30}, int64_t{64}, size / 2, size - 64}) {
    fs::remove(path_);
    product(7);
    fs::resize_file(path_, static_cast<uintmax_t>(bytes));
    EXPECT_TRUE(testing::same_bits(product(7), expected)) << bytes << " bytes";
  }
}

TEST_F(WeightCacheTest, AnotherShapeIsNotMistaken) {
  product(1, 96);
  const auto wider = product(1, 128);
  fs::remove(path_);
  EXPECT_TRUE(testing::same_bits(wider, product(1, 128)));
}

TEST_F(WeightCacheTest, AFileThatWasWrittenAnewIsWhole) {
  product(1);
  flip_byte(64);
  const auto broken = contents();
  const auto second = product(2);
  EXPECT_NE(contents(), broken);
  EXPECT_TRUE(testing::same_bits(second, uncached(2)));
  EXPECT_TRUE(testing::same_bits(product(3), second)) << "what was written anew is read";
}

TEST_F(WeightCacheTest, AFolderKeepsTheFilesUsedLast) {
  for (int i = 0; i < 20; ++i) {
    const fs::path other = folder_ / fmt::format("other-{}.weights", i);
    std::ofstream(other) << "x";
    fs::last_write_time(other, fs::file_time_type::clock::now() - std::chrono::hours(i + 1));
  }
  std::ofstream(folder_ / "notes.txt") << "not ours";
  product(1);
  int64_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) files += entry.path().extension() == ".weights";
  EXPECT_EQ(files, kWeightCacheFiles);
  EXPECT_TRUE(fs::exists(folder_ / "other-0.weights"));
  EXPECT_FALSE(fs::exists(folder_ / "other-7.weights"));
  EXPECT_TRUE(fs::exists(folder_ / "notes.txt"));
}

TEST_F(WeightCacheTest, AFolderThatCannotBeMadeStopsNothing) {
  std::ofstream(folder_ / "file") << "x";
  path_ = folder_ / "file" / "model.weights";
  const auto backend = make_cpu_backend({.threads = 1, .weight_cache = path_});
  const auto matrix = testing::random_matrix(DType::q8_0, 16, 32, 1);
  EXPECT_NE(backend->load_matrix({&matrix.view, 1}), nullptr);
  backend->loaded();
}

// What a file holds, by type, for this kLayoutVersion. If this fails, the layout or the integers in it have changed: raise the
// version, or files of earlier builds will be read as something that they are not.
struct PackedBytes {
  DType dtype;
  const char* hash;
};
constexpr PackedBytes kPackedBytes[] = {
    {DType::f32, "53284f07bf61c858"},    {DType::f16, "71361e705c8b1472"},
    {DType::bf16, "490a8e9aa8dab862"},   {DType::q4_0, "5e5685cced2eaf1b"},
    {DType::q4_1, "9e36405fc1a590ce"},   {DType::q5_0, "0494450b8e93411d"},
    {DType::q5_1, "f2bd8ec5b220123d"},   {DType::q8_0, "3700afb9be8b365c"},
    {DType::q2_k, "3042aed47b0b5a2e"},   {DType::q4_k, "5df80fbcae09d720"},
    {DType::q5_k, "a02957c47eba9f28"},   {DType::q6_k, "3f20862b620f152f"},
    {DType::iq4_nl, "922b7c18bad9cdf1"}, {DType::iq4_xs, "64dc121dc9802e4b"},
    {DType::mxfp4, "8d14bdd09229355c"},
};

TEST_F(WeightCacheTest, TheLayoutIsTheOneOfItsVersion) {
  EXPECT_EQ(kLayoutVersion, 2U);
  for (const auto& [dtype, hash] : kPackedBytes) {
    fs::remove(path_);
    {
      const auto backend = make_cpu_backend({.threads = 1, .weight_cache = path_});
      const auto matrix = testing::random_matrix(dtype, 20, 256, 1);
      const auto loaded = backend->load_matrix({&matrix.view, 1});
      backend->loaded();
    }
    EXPECT_EQ(to_hex(sha256(contents())).substr(0, 16), hash) << dtype_info(dtype).name;
  }
}

}  // namespace
}  // namespace neutrino::compute::cpu
