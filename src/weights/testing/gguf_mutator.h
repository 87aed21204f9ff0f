// Makes hostile GGUF files out of good ones, field by field.
//
// Flipping random bits of a file hardly ever gets behind its first length. So the mutator changes the structure that a good
// file was written from, and writes it again: a dimension of 2^42 + 1, scores of another type, two tensors of one name, in a
// file that is whole otherwise. What it prefers follows the bugs that others had: metadata 35 %, tensor infos 35 %, header
// 10 %, things that contradict each other 10 %, alignment 5 %, data 5 %.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing/hostile_report.h"
#include "weights/gguf.h"
#include "weights/testing/gguf_writer.h"

namespace neutrino::weights::testing {

class GgufMutator {
 public:
  explicit GgufMutator(uint64_t seed) : random_(seed) {}

  // 1-3 changes to a copy of `image`, written out.
  std::string mutate(GgufImage image) {
    tail_cut_ = tail_added_ = 0;
    int changes = 1 + (random_.chance(0.4) ? 1 : 0) + (random_.chance(0.1) ? 1 : 0);
    while (changes-- > 0) change(image);
    std::string file = serialise(image);
    file.resize(file.size() - std::min<size_t>(file.size(), tail_cut_));
    file.resize(file.size() + tail_added_, '\x5A');
    return file;
  }

  // One change to one key-value pair, or a pair that is gone or new.
  void change_entry(GgufImage& image) {
    if (image.metadata.empty()) return;
    GgufKeyValue& entry = pick(image.metadata);
    switch (random_.below(8)) {
      case 0:
        entry.type = static_cast<uint32_t>(random_.chance(0.8) ? random_.below(14) : odd_number());
        return;
      case 1: return retype(entry);
      case 2: return poke(entry.payload, 0, odd_number(), 8);  // a length, or a number
      case 3: return poke(entry.payload, 0, odd_number(), 4);  // a number, or an element type
      case 4: return poke(entry.payload, 4, odd_number(), 8);  // an array's length
      case 5: return flip_bit(entry.payload);
      case 6: return rename(entry, image);
      default: image.metadata.erase(image.metadata.begin() + (&entry - image.metadata.data()));
    }
  }

 private:
  void change(GgufImage& image) {
    const int64_t percent = random_.below(100);
    if (percent < 35)
      change_metadata(image);
    else if (percent < 70)
      change_tensor(image);
    else if (percent < 80)
      change_header(image);
    else if (percent < 90)
      contradict(image);
    else if (percent < 95)
      change_alignment(image);
    else
      change_data(image);
  }

  // Numbers at which sizes go wrong.
  uint64_t odd_number() {
    static constexpr uint64_t kNumbers[] = {0,
                                            1,
                                            2,
                                            7,
                                            31,
                                            32,
                                            33,
                                            64,
                                            255,
                                            256,
                                            65535,
                                            65536,
                                            (1ull << 31) - 1,
                                            1ull << 31,
                                            (1ull << 32) - 1,
                                            1ull << 32,
                                            (1ull << 42) + 1,
                                            (1ull << 63) - 1,
                                            1ull << 63,
                                            ~0ull - 31,
                                            ~0ull};
    return random_.chance(0.8) ? pick(kNumbers) : uint64_t{random_.next()} << random_.below(33);
  }
  template <typename T, size_t n>
  const T& pick(const T (&values)[n]) {
    return values[random_.below(n)];
  }
  template <typename T>
  T& pick(std::vector<T>& values) {
    return values[static_cast<size_t>(random_.below(static_cast<int64_t>(values.size())))];
  }

  void poke(std::string& bytes, size_t offset, uint64_t value, size_t size) {
    if (offset + size <= bytes.size()) std::memcpy(bytes.data() + offset, &value, size);
  }
  void flip_bit(std::string& bytes) {
    if (!bytes.empty())
      bytes[static_cast<size_t>(random_.below(static_cast<int64_t>(bytes.size())))] ^=
          static_cast<char>(1 << random_.below(8));
  }
  std::string random_bytes(int64_t count) {
    std::string bytes;
    while (count-- > 0) bytes += static_cast<char>(random_.next());
    return bytes;
  }

  // ---- metadata

  void change_metadata(GgufImage& image) {
    const int64_t which = random_.below(10);
    if (which == 8) return set_number(image);
    if (which == 9) return change_vocabulary(image);
    change_entry(image);
  }

  // A well-formed value of another type: what a type confusion needs.
  void retype(GgufKeyValue& entry) {
    const auto type = static_cast<uint32_t>(random_.below(kGgufTypes));
    static constexpr int64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    entry.type = type;
    entry.payload.clear();
    if (type == static_cast<uint32_t>(GgufType::string))
      return append_text(entry.payload, random_bytes(random_.below(40)));
    if (type != static_cast<uint32_t>(GgufType::array)) {
      entry.payload = random_bytes(kBytes[type]);
      return;
    }
    const auto element = static_cast<uint32_t>(random_.below(kGgufTypes));
    const int64_t count = random_.below(300);
    append(entry.payload, element);
    append<uint64_t>(entry.payload, static_cast<uint64_t>(count));
    if (element == static_cast<uint32_t>(GgufType::string))
      for (int64_t i = 0; i < count; ++i) append_text(entry.payload, random_bytes(random_.below(6)));
    else
      entry.payload += random_bytes(count * kBytes[element]);
  }

  void rename(GgufKeyValue& entry, GgufImage& image) {
    switch (random_.below(5)) {
      case 0: entry.key = pick(image.metadata).key; return;
      case 1: entry.key.clear(); return;
      case 2: entry.key = std::string(static_cast<size_t>(1) << random_.below(18), 'k'); return;
      case 3: return flip_bit(entry.key);
      default: entry.key = random_bytes(8);
    }
  }

  // A hyper-parameter out of any range, of the right type.
  void set_number(GgufImage& image) {
    static constexpr const char* kIntegers[] = {
        "block_count",          "context_length",          "embedding_length",     "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "rope.dimension_count", "vocab_size"};
    static constexpr const char* kFloats[] = {"attention.layer_norm_rms_epsilon", "rope.freq_base"};
    static constexpr float kOddFloats[] = {0.0f, -1.0f, 1e38f, 1e-45f, __builtin_inff(), __builtin_nanf("")};
    if (random_.chance(0.25))
      image.set(f32_value(std::string("llama.") + pick(kFloats), pick(kOddFloats)));
    else
      image.set(number_value(std::string("llama.") + pick(kIntegers), GgufType::u32,
                             static_cast<uint32_t>(odd_number())));
  }

  void change_vocabulary(GgufImage& image) {
    static constexpr const char* kIds[] = {"bos", "eos", "unknown", "padding", "eot"};
    static constexpr const char* kMerges[] = {"", " ", "ab", "a b c", " b", "a ", "h e", "zz zz"};
    static constexpr const char* kTokens[] = {"<0x-1>", "<0xGG>", "<0x100>", "<0x", "", "he"};
    switch (random_.below(6)) {
      case 0:
        return image.set(u32_value(std::string("tokenizer.ggml.") + pick(kIds) + "_token_id",
                                   static_cast<uint32_t>(odd_number())));
      case 1:
        return image.set(array_value<std::string>("tokenizer.ggml.merges", GgufType::string,
                                                  {pick(kMerges), pick(kMerges)}));
      case 2:
        return image.set(array_value<int32_t>("tokenizer.ggml.token_type", GgufType::i32, kinds(image)));
      case 3:
        return image.set(
            array_value<float>("tokenizer.ggml.scores", GgufType::f32, {1.0f, __builtin_nanf("")}));
      case 4:
        return image.set(
            text_value("tokenizer.ggml.pre", random_.chance(0.5) ? "gpt-2" : "no such pre-tokenizer"));
      default: {
        std::vector<std::string> tokens;
        for (int64_t i = random_.below(300); i >= 0; --i)
          tokens.push_back(random_.chance(0.1) ? pick(kTokens) : "t" + std::to_string(i));
        image.set(array_value("tokenizer.ggml.tokens", GgufType::string, tokens));
      }
    }
  }
  std::vector<int32_t> kinds(const GgufImage&) {
    std::vector<int32_t> kinds(static_cast<size_t>(267 + random_.below(3) - 1), 1);
    pick(kinds) = static_cast<int32_t>(random_.below(9)) - 1;
    return kinds;
  }

  // ---- tensors

  void change_tensor(GgufImage& image) {
    if (image.tensors.empty()) return;
    GgufTensor& tensor = pick(image.tensors);
    static constexpr uint32_t kTypes[] = {0, 1, 2, 3, 4, 6, 8, 14, 26, 30, 39, 100, 0x7FFFFFFF, 0xFFFFFFFF};
    switch (random_.below(12)) {
      case 0: tensor.dimensions.resize(static_cast<size_t>(random_.below(7)), 1); return;
      case 1:
      case 2:
        if (!tensor.dimensions.empty()) pick(tensor.dimensions) = odd_number();
        return;
      case 3:
        if (!tensor.dimensions.empty())
          pick(tensor.dimensions) += static_cast<uint64_t>(random_.between(-1, 1));
        return;
      case 4: std::reverse(tensor.dimensions.begin(), tensor.dimensions.end()); return;
      case 5:
      case 6: tensor.type = pick(kTypes); return;
      case 7: tensor.offset = odd_number(); return;
      case 8: tensor.offset += static_cast<uint64_t>(random_.between(-2, 2)) * image.alignment; return;
      case 9:
        tensor.name = random_.chance(0.5) ? pick(image.tensors).name : random_bytes(random_.below(80));
        return;
      case 10: image.tensors.erase(image.tensors.begin() + (&tensor - image.tensors.data())); return;
      default: image.tensors.push_back(GgufTensor(tensor)); return;
    }
  }

  // ---- the rest

  void change_header(GgufImage& image) {
    switch (random_.below(4)) {
      case 0: return flip_bit(image.magic);
      case 1:
        image.version =
            static_cast<uint32_t>(random_.chance(0.5) ? __builtin_bswap32(image.version) : odd_number());
        return;
      case 2: image.tensor_count = odd_number(); return;
      default: image.metadata_count = odd_number(); return;
    }
  }

  void contradict(GgufImage& image) {
    switch (random_.below(6)) {
      case 0:
        image.tensor_count = image.tensors.size() + static_cast<uint64_t>(random_.between(-1, 1));
        return;
      case 1:
        image.metadata_count = image.metadata.size() + static_cast<uint64_t>(random_.between(-1, 1));
        return;
      case 2:
        if (!image.tensors.empty()) std::swap(pick(image.tensors).name, pick(image.tensors).name);
        return;
      case 3:
        if (!image.tensors.empty()) std::swap(pick(image.tensors).data, pick(image.tensors).data);
        return;
      case 4: tail_cut_ = static_cast<size_t>(random_.below(20'000)); return;
      default: tail_added_ = static_cast<size_t>(random_.below(200)); return;
    }
  }

  void change_alignment(GgufImage& image) {
    static constexpr uint64_t kAlignments[] = {0,  1,  2,   3,       4,       8,        16,   24,
                                               33, 64, 256, 1 << 20, 1 << 21, 1u << 31, ~0ull};
    const uint64_t alignment = pick(kAlignments);
    image.set(random_.chance(0.7) ? u32_value("general.alignment", static_cast<uint32_t>(alignment))
                                  : number_value("general.alignment", GgufType::u64, alignment));
    if (std::has_single_bit(alignment) && alignment <= 4096 && random_.chance(0.5)) {
      image.alignment = alignment;
      layout(image);
    }
  }

  void change_data(GgufImage& image) {
    if (image.tensors.empty()) return;
    std::string& data = pick(image.tensors).data;
    if (random_.chance(0.3))
      data.resize(static_cast<size_t>(random_.below(static_cast<int64_t>(data.size()) + 1)));
    for (size_t i = 0; i < data.size(); ++i)
      if (random_.chance(0.05)) data[i] = static_cast<char>(random_.next());
  }

  Random random_;
  size_t tail_cut_ = 0, tail_added_ = 0;
};

// ---- running many of them

// The small models that are mutated: all weight types, tied and untied, versions 2 and 3.
inline std::vector<GgufImage> hostile_seeds() {
  std::vector<GgufImage> images;
  for (const compute::DType dtype : compute::testing::weight_dtypes()) {
    TinyLlama options = tiny_sizes(dtype);
    options.seed = images.size();
    images.push_back(tiny_llama(options));
    if (compute::dtype_info(dtype).block > 32) continue;
    options.num_hidden_layers = 2, options.tie_word_embeddings = false, ++options.seed;
    images.push_back(tiny_llama(options));
    images.back().version = 2;
  }
  return images;
}

inline bool refused_by_header(const std::string& reason, const std::string& file) {
  return file.size() < 24 || reason == "magic" || reason == "version" || reason == "count_limit" ||
         reason == "count_room" || reason == "no_tensors" || reason == "format";
}

// Gives each file that opens to `use`, which may throw Error as well. Anything else that is thrown is a bug and gets out.
inline HostileReport run_hostile_files(int64_t files, uint64_t seed,
                                       const std::function<void(const WeightFile&)>& use) {
  const auto seeds = hostile_seeds();
  GgufMutator mutator(seed);
  HostileReport report;
  for (; report.files < files; ++report.files) {
    const std::string file = mutator.mutate(seeds[static_cast<size_t>(report.files) % seeds.size()]);
    // Its own allocation, of the exact size, so that AddressSanitizer sees the first byte read behind it.
    const std::unique_ptr<std::byte[]> bytes(new std::byte[file.size()]);
    std::memcpy(bytes.get(), file.data(), file.size());
    std::string reason;
    try {
      const auto weights = parse_gguf("hostile.gguf", {bytes.get(), file.size()});
      use(*weights);
      ++report.accepted;
    } catch (const Error& error) {
      reason = error.reason().empty() ? "(a later layer)" : error.reason();
      ++report.refused[reason];
    }
    report.past_header += !refused_by_header(reason, file);
  }
  return report;
}

// Files for T-FUZZ-GGUF: NEUTRINO_FUZZ_ROUNDS, else 2,000, or 200,000 in the long form.
inline int64_t hostile_files() {
  return is_set("NEUTRINO_FUZZ_ROUNDS") ? std::atoll(std::getenv("NEUTRINO_FUZZ_ROUNDS"))
                                        : budget(2000, 200'000);
}

// Read all that a weight file offers, so that a sanitizer sees any byte that is not its own.
inline void read_tensors(const WeightFile& file) {
  volatile float sum = 0;
  for (const TensorEntry& tensor : file.tensors()) {
    const TensorData data = file.read(tensor);
    const int64_t columns = tensor.shape.back(), row = compute::row_bytes(tensor.dtype, columns).value();
    std::vector<float> values(static_cast<size_t>(columns));
    for (int64_t offset = 0; offset < tensor.bytes; offset += row) {
      compute::dequantize_row(tensor.dtype, data.data + offset, columns, values.data());
      sum = sum + values.back();
    }
  }
}

inline void read_everything(const WeightFile& file) {
  read_tensors(file);
  file.chat_template();
  file.vocabulary();
}

// One hyper-parameter of a small model set to a value that no model has, for whoever reads the configuration.
struct BadHyperparameter {
  std::string what;
  GgufImage image;
};
inline std::vector<BadHyperparameter> bad_hyperparameters() {
  std::vector<BadHyperparameter> cases;
  const auto add = [&](GgufKeyValue value, std::string_view text) {
    cases.push_back({value.key + " = " + std::string(text), tiny_llama()});
    cases.back().image.set(std::move(value));
  };
  for (const char* key : {"block_count", "context_length", "embedding_length", "feed_forward_length",
                          "attention.head_count", "attention.head_count_kv", "rope.dimension_count"}) {
    const std::string name = std::string("llama.") + key;
    add(u32_value(name, 0), "0");
    add(number_value(name, GgufType::i32, int32_t{-1}), "-1");
    add(u32_value(name, 1u << 31), "2^31");
    add(number_value(name, GgufType::u64, ~0ull), "2^64 - 1");
    add(number_value(name, GgufType::i64, INT64_MAX), "2^63 - 1");
    add(f32_value(name, __builtin_nanf("")), "NaN");
  }
  for (const char* key : {"attention.layer_norm_rms_epsilon", "rope.freq_base"}) {
    const std::string name = std::string("llama.") + key;
    add(f32_value(name, 0.0f), "0");
    add(f32_value(name, -1.0f), "-1");
    add(f32_value(name, __builtin_nanf("")), "NaN");
    add(f32_value(name, __builtin_inff()), "infinity");
  }
  return cases;
}

}  // namespace neutrino::weights::testing
