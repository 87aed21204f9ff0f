// GGUF files that lie. The ids are those of the advisories and fuzzing campaigns that other readers fell to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "tokenizer/tokenizer.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/gguf_writer.h"

namespace neutrino::weights {
namespace {

using compute::DType;
using namespace testing;  // NOLINT: neutrino::weights::testing

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The check that refuses a file, or "" where it opens and all of it can be read.
std::string refusal(const std::string& file) {
  const std::unique_ptr<std::byte[]> bytes(
      new std::byte[file.size()]);  // the exact size, for AddressSanitizer
  std::memcpy(bytes.get(), file.data(), file.size());
  try {
    read_everything(*parse_gguf("hostile.gguf", {bytes.get(), file.size()}));
    return "";
  } catch (const Error& error) {
    EXPECT_FALSE(error.reason().empty()) << error.message();
    return error.reason();
  }
}

std::string refusal(const GgufImage& image) { return refusal(serialise(image)); }

constexpr uint64_t kOddNumbers[] = {0, 1, (1ull << 31) - 1, 1ull << 31, (1ull << 32) - 1, 1ull << 63, ~0ull};

// T-GGUF-01: each count, length and type of a header, set to each odd number.
TEST(GgufHostile, every_count_and_length_set_to_an_odd_number_is_refused) {
  using Change = void (*)(GgufImage&, uint64_t);
  const std::pair<const char*, Change> fields[] = {
      {"version", [](GgufImage& image, uint64_t n) { image.version = static_cast<uint32_t>(n); }},
      {"tensor count", [](GgufImage& image, uint64_t n) { image.tensor_count = n; }},
      {"metadata count", [](GgufImage& image, uint64_t n) { image.metadata_count = n; }},
      {"key length", [](GgufImage& image, uint64_t n) { image.metadata[1].key_length = n; }},
      {"string length",
       [](GgufImage& image, uint64_t n) { std::memcpy(image.find("general.name")->payload.data(), &n, 8); }},
      {"value type", [](GgufImage& image,
                        uint64_t n) { image.find("general.architecture")->type = static_cast<uint32_t>(n); }},
      {"array element type",
       [](GgufImage& image, uint64_t n) {
         std::memcpy(image.find("tokenizer.ggml.tokens")->payload.data(), &n, 4);
       }},
      {"array length",
       [](GgufImage& image, uint64_t n) {
         std::memcpy(image.find("tokenizer.ggml.tokens")->payload.data() + 4, &n, 8);
       }},
      {"length of a string in an array",
       [](GgufImage& image, uint64_t n) {
         std::memcpy(image.find("tokenizer.ggml.tokens")->payload.data() + 12, &n, 8);
       }},
      {"tensor name length", [](GgufImage& image, uint64_t n) { image.tensors[0].name_length = n; }},
      {"number of dimensions",
       [](GgufImage& image, uint64_t n) { image.tensors[0].dimension_count = static_cast<uint32_t>(n); }},
      {"innermost dimension", [](GgufImage& image, uint64_t n) { image.tensors[0].dimensions[0] = n; }},
      {"outermost dimension", [](GgufImage& image, uint64_t n) { image.tensors[0].dimensions[1] = n; }},
      {"tensor type", [](GgufImage& image, uint64_t n) { image.tensors[0].type = static_cast<uint32_t>(n); }},
      {"tensor offset", [](GgufImage& image, uint64_t n) { image.tensors[1].offset = n; }},
      {"alignment",
       [](GgufImage& image, uint64_t n) { image.set(number_value("general.alignment", GgufType::u64, n)); }},
  };
  int headers = 0, refused = 0;
  for (const uint32_t version : {2u, 3u})
    for (const auto& [what, change] : fields)
      for (const uint64_t number : kOddNumbers) {
        GgufImage image = tiny_llama({.seed = version});
        image.version = version;
        change(image, number);
        ++headers;
        const std::string reason = refusal(image);
        EXPECT_NE(reason, "") << what << " = " << number;
        refused += !reason.empty();
      }
  EXPECT_GE(headers, 200);
  std::printf("%d of %d headers refused\n", refused, headers);
}

// T-GGUF-02: what opens has no more tensor bytes than the file has bytes; the ways around it that others had are refused.
TEST(GgufHostile, tensors_never_have_more_bytes_than_the_file) {
  GgufMutator mutator(2);
  const auto seeds = hostile_seeds();
  int64_t opened = 0;
  for (int64_t i = 0; i < budget(2000, 100'000); ++i) {
    const std::string file = mutator.mutate(seeds[static_cast<size_t>(i) % seeds.size()]);
    try {
      const auto weights = parse_gguf("hostile.gguf", bytes_of(file));
      uint64_t sum = 0;
      for (const TensorEntry& tensor : weights->tensors()) {
        ASSERT_GE(tensor.bytes, 1);
        ASSERT_GE(tensor.data, bytes_of(file).data());
        ASSERT_LE(tensor.data + tensor.bytes, bytes_of(file).data() + file.size());
        sum += static_cast<uint64_t>(tensor.bytes);
      }
      ASSERT_LE(sum, file.size());
      ++opened;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(opened, 0);
}

// Two tensors whose sizes are fine but whose sum, or whose padded end, wraps around.
TEST(GgufHostile, ends_that_wrap_around_are_refused) {
  GgufImage image = tiny_llama({.dtype = DType::f32});
  image.tensors[0].offset = ~0ull - 31;
  EXPECT_EQ(refusal(image), "tensor_range");
  image = tiny_llama({.dtype = DType::f32});
  image.tensors[0].dimensions = {1ull << 60, 1};
  image.tensors[2].dimensions = {1ull << 60, 1};
  EXPECT_EQ(refusal(image), "tensor_range");
}

// T-GGUF-03: dimensions whose product is 2^64 and a little, so that a size computed in 64 bits is small.
TEST(GgufHostile, sizes_that_wrap_around_are_refused) {
  for (const DType dtype : compute::testing::weight_dtypes()) {
    const auto& info = compute::dtype_info(dtype);
    const auto block = static_cast<uint64_t>(info.block);
    // rows of one quant block, so many that rows * block_bytes = 2^64 + a little
    const uint64_t rows = (~0ull / static_cast<uint64_t>(info.block_bytes)) + 1;
    const std::vector<uint64_t> shapes[] = {
        {block, rows},
        {block << 32, 1ull << 32},
        {(1ull << 42) + block, 1ull << 22},
        {block, 1ull << 32, 1ull << 32},
        {block, 1ull << 21, 1ull << 21, 1ull << 22},
        {block, (1ull << 63) - 1, 2},
        {(1ull << 63) - block, 2},
        {1ull << 63, 1},
        {~0ull, ~0ull},
        {(1ull << 42) + 1, 1},
    };
    for (const auto& dimensions : shapes) {
      GgufImage image = tiny_llama(tiny_sizes(dtype));
      image.tensors[0].dimensions = dimensions;
      const std::string reason = refusal(image);
      EXPECT_TRUE(reason == "tensor_size" || reason == "dimension" || reason == "tensor_range")
          << info.name << " " << reason;
    }
  }
}

TEST(GgufHostile, rows_of_broken_quant_blocks_are_refused) {
  for (const DType dtype : compute::testing::weight_dtypes()) {
    if (compute::dtype_info(dtype).block == 1) continue;
    GgufImage image = tiny_llama(tiny_sizes(dtype));
    EXPECT_EQ(refusal(image), "") << compute::dtype_info(dtype).name;
    ++image.tensors[0].dimensions[0];
    EXPECT_EQ(refusal(image), "tensor_size") << compute::dtype_info(dtype).name;
  }
}

TEST(GgufHostile, only_powers_of_two_within_bounds_align) {
  for (const uint64_t alignment : {8ull, 16ull, 32ull, 64ull, 4096ull, 1ull << 20}) {
    GgufImage image = tiny_llama();
    image.alignment = alignment;
    image.set(u32_value("general.alignment", static_cast<uint32_t>(alignment)));
    layout(image);
    EXPECT_EQ(refusal(image), "") << alignment;
  }
  for (const uint64_t alignment :
       {0ull, 1ull, 2ull, 4ull, 3ull, 24ull, 33ull, 1ull << 21, 1ull << 31, 1ull << 32, 1ull << 62}) {
    GgufImage image = tiny_llama();
    image.set(number_value("general.alignment", GgufType::u64, alignment));
    EXPECT_EQ(refusal(image), "alignment") << alignment;
  }
  GgufImage image = tiny_llama();
  image.set(number_value("general.alignment", GgufType::i32, int32_t{-32}));
  EXPECT_EQ(refusal(image), "alignment");
}

// T-GGUF-04: 30 good files cut off at every byte of their header (every third in the usual form) and at many places in their
// data.
TEST(GgufHostile, a_file_that_ends_early_is_refused_wherever_it_ends) {
  Random random(4);
  const int64_t files = 30, step = budget(3, 1), data_cuts = budget(100, 1000);
  int64_t cuts = 0;
  for (int64_t i = 0; i < files; ++i) {
    GgufImage image = hostile_seeds()[static_cast<size_t>(i) % 12];
    image.set(text_value("general.name", std::string(static_cast<size_t>(i), 'n')));
    const std::string file = serialise(image);
    const auto header = static_cast<int64_t>(serialise_header(image).size()),
               size = static_cast<int64_t>(file.size());
    std::vector<int64_t> ends;
    for (int64_t end = random.below(step); end <= header; end += step) ends.push_back(end);
    for (int64_t cut = 0; cut < data_cuts; ++cut) ends.push_back(random.between(header, size - 1));
    for (const int64_t end : ends)
      ASSERT_NE(refusal(file.substr(0, static_cast<size_t>(end))), "") << end << " of " << size;
    ASSERT_EQ(refusal(file), "");
    cuts += static_cast<int64_t>(ends.size());
  }
  std::printf("%ld cuts of %ld files refused\n", cuts, files);
}

// T-GGUF-05
TEST(GgufHostile, tensors_outside_of_the_file_or_of_each_other_are_refused) {
  GgufImage image = tiny_llama();
  image.tensors[0].dimensions[1] += 1'000'000;
  EXPECT_EQ(refusal(image), "tensor_range");
  image = tiny_llama();
  image.tensors.back().offset += 32;
  EXPECT_EQ(refusal(image), "tensor_range");
  image = tiny_llama();
  image.tensors.back().data.pop_back();
  EXPECT_EQ(refusal(image), "tensor_range");
  image = tiny_llama();
  image.tensors[3].offset = image.tensors[2].offset;
  EXPECT_EQ(refusal(image), "tensor_overlap");
  image = tiny_llama();
  image.tensors[3].offset += 1;
  EXPECT_EQ(refusal(image), "tensor_alignment");
  image = tiny_llama();
  image.tensors.back().data += std::string(32, 'x');
  EXPECT_EQ(refusal(image), "unused_bytes");
  image = tiny_llama();
  image.tensors.push_back(image.tensors.back());
  layout(image);
  EXPECT_EQ(refusal(image), "duplicate_tensor");
}

// T-GGUF-06: those that the reader itself is asked for have the declared type or none. (The values are the models' to judge;
// they use the same table.)
TEST(GgufHostile, a_hyper_parameter_of_another_type_is_refused_and_its_value_is_what_the_file_says) {
  int wrong_type = 0;
  for (const auto& [what, image] : bad_hyperparameters()) {
    const std::string reason = refusal(image);
    if (what.ends_with("NaN") && what.find("epsilon") == what.npos && what.find("freq_base") == what.npos) {
      EXPECT_EQ(reason, "key_type") << what;
      ++wrong_type;
    } else {
      EXPECT_EQ(reason, "") << what;
    }
  }
  EXPECT_EQ(wrong_type, 7);
  GgufImage image = tiny_llama();
  image.set(number_value("llama.block_count", GgufType::u64, ~0ull));
  const std::string file = serialise(image);
  const auto weights = parse_gguf("hostile.gguf", bytes_of(file));
  EXPECT_THROW(weights->metadata().integer("llama.block_count"), Error);
}

// T-GGUF-07: each key that neutrino reads, stored as each type. The table says again, by hand, what each may be.
const char* const kInteger = "u8 i8 u16 i16 u32 i32 u64 i64";
const char* const kIntegerOrArray =
    "u8 i8 u16 i16 u32 i32 u64 i64 u8[] i8[] u16[] i16[] u32[] i32[] u64[] i64[]";
const std::pair<const char*, const char*> kDeclared[] = {
    {"general.alignment", kInteger},
    {"general.architecture", "string"},
    {"general.file_type", kInteger},
    {"general.license", "string"},
    {"general.license.link", "string"},
    {"general.license.name", "string"},
    {"general.name", "string"},
    {"llama.attention.causal", "bool"},
    {"llama.attention.head_count", kIntegerOrArray},
    {"llama.attention.head_count_kv", kIntegerOrArray},
    {"llama.attention.key_length", kInteger},
    {"llama.attention.layer_norm_rms_epsilon", "f32 f64"},
    {"llama.attention.value_length", kInteger},
    {"llama.block_count", kInteger},
    {"llama.context_length", kInteger},
    {"llama.embedding_length", kInteger},
    {"llama.feed_forward_length", kIntegerOrArray},
    {"llama.rope.dimension_count", kInteger},
    {"llama.rope.freq_base", "f32 f64"},
    {"llama.rope.scaling.factor", "f32 f64"},
    {"llama.rope.scaling.type", "string"},
    {"llama.vocab_size", kInteger},
    {"split.count", kInteger},
    {"split.no", kInteger},
    {"split.tensors.count", kInteger},
    {"tokenizer.chat_template", "string"},
    {"tokenizer.ggml.add_bos_token", "bool"},
    {"tokenizer.ggml.add_eos_token", "bool"},
    {"tokenizer.ggml.bos_token_id", kInteger},
    {"tokenizer.ggml.eos_token_id", kInteger},
    {"tokenizer.ggml.eot_token_id", kInteger},
    {"tokenizer.ggml.merges", "string[]"},
    {"tokenizer.ggml.model", "string"},
    {"tokenizer.ggml.padding_token_id", kInteger},
    {"tokenizer.ggml.pre", "string"},
    {"tokenizer.ggml.scores", "f32[]"},
    {"tokenizer.ggml.token_type", "i32[]"},
    {"tokenizer.ggml.tokens", "string[]"},
    {"tokenizer.ggml.unknown_token_id", kInteger},
};

GgufKeyValue zero_of(std::string key, uint32_t type, std::optional<uint32_t> element) {
  static constexpr size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  GgufKeyValue value{.key = std::move(key), .type = type, .payload = {}};
  if (!element) {
    value.payload = std::string(type < kGgufTypes ? kBytes[type] : 8, '\0');
    return value;
  }
  append(value.payload, *element);
  append<uint64_t>(value.payload, 2);
  value.payload += std::string(2 * (*element < kGgufTypes ? kBytes[*element] : 8), '\0');
  return value;
}

bool is_listed(std::string_view types, std::string_view type) {
  return fmt::format(" {} ", types).find(fmt::format(" {} ", type)) != std::string::npos;
}

TEST(GgufHostile, a_known_key_of_another_type_is_refused) {
  int combinations = 0, accepted = 0;
  const auto try_type = [&](const char* key, const char* declared, uint32_t type,
                            std::optional<uint32_t> element) {
    const uint32_t shown = element.value_or(type);
    const std::string name =
        (shown < kGgufTypes ? std::string(gguf_type_name(static_cast<GgufType>(shown))) : "none") +
        (element ? "[]" : "");
    GgufImage image = tiny_llama();
    image.set(zero_of(key, type, element));
    std::string reason;
    const std::string file = serialise(image);
    try {
      parse_gguf("hostile.gguf", bytes_of(file));
    } catch (const Error& error) {
      reason = error.reason();
    }
    ++combinations;
    if (is_listed(declared, name)) {
      ++accepted;
      EXPECT_TRUE(reason.empty() || (std::string_view(key) == "general.alignment" && reason == "alignment"))
          << key << " " << name << reason;
    } else {
      EXPECT_TRUE(reason == "key_type" || reason == "value_type" || reason == "nested_array")
          << key << " " << name << " " << reason;
    }
  };
  for (const auto& [key, declared] : kDeclared) {
    for (uint32_t type = 0; type <= kGgufTypes; ++type)
      if (type != static_cast<uint32_t>(GgufType::array)) try_type(key, declared, type, {});
    for (uint32_t element = 0; element <= kGgufTypes; ++element)
      try_type(key, declared, static_cast<uint32_t>(GgufType::array), element);
  }
  std::printf("%d combinations of key and type, %d accepted\n", combinations, accepted);
  EXPECT_EQ(combinations, 39 * 27);
}

TEST(GgufHostile, metadata_that_is_malformed_is_refused) {
  const auto with = [](GgufKeyValue value) {
    GgufImage image = tiny_llama();
    image.metadata.push_back(std::move(value));
    return refusal(image);
  };
  EXPECT_EQ(with(u32_value("llama.block_count", 1)), "duplicate_key");
  EXPECT_EQ(with(u32_value("", 1)), "key_name");
  EXPECT_EQ(with(u32_value("a b", 1)), "key_name");
  EXPECT_EQ(with(u32_value("caf\xc3\xa9", 1)), "key_name");
  EXPECT_EQ(with(u32_value(std::string(limits::kGgufKeyBytes + 1, 'k'), 1)), "string_length");
  EXPECT_EQ(with(number_value("my.flag", GgufType::boolean, uint8_t{2})), "boolean");
  EXPECT_EQ(with(array_value<uint8_t>("my.flags", GgufType::boolean, {0, 1, 255})), "boolean");
  EXPECT_EQ(with(array_value<uint64_t>("my.arrays", GgufType::array, {0})), "nested_array");
  EXPECT_EQ(with(array_value<uint64_t>("my.numbers", GgufType::u64, {1, 2})), "");
  GgufKeyValue many = array_value<uint8_t>("my.bytes", GgufType::u8, {});
  const uint64_t count = limits::kGgufArrayElements + 1;
  std::memcpy(many.payload.data() + 4, &count, 8);
  EXPECT_EQ(with(many), "array_count");
}

TEST(GgufHostile, files_of_other_versions_are_refused_by_name) {
  const auto message = [](uint32_t version) {
    GgufImage image = tiny_llama();
    image.version = version;
    const std::string file = serialise(image);
    try {
      parse_gguf("hostile.gguf", bytes_of(file));
    } catch (const Error& error) {
      return error.message();
    }
    return std::string();
  };
  EXPECT_THAT(message(1), ::testing::HasSubstr("version 1 is not read"));
  EXPECT_THAT(message(__builtin_bswap32(3)), ::testing::HasSubstr("big-endian"));
  EXPECT_THAT(message(4), ::testing::HasSubstr("must be 2 or 3, got 4"));
  EXPECT_EQ(message(2), "");
}

// T-TOK-01 and T-TOK-03: vocabularies.
TEST(GgufHostile, vocabularies_that_contradict_themselves_are_refused) {
  const auto with = [](GgufKeyValue value) {
    GgufImage image = tiny_llama();
    image.set(std::move(value));
    return refusal(image);
  };
  const auto tokens_with = [](std::string text) {
    std::vector<std::string> tokens(267, "t");
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] += std::to_string(i);
    tokens[9] = std::move(text);
    return array_value("tokenizer.ggml.tokens", GgufType::string, tokens);
  };
  const auto byte_token = [&](std::string text) {
    GgufImage image = tiny_llama();
    std::vector<int32_t> kinds(267, 1);
    kinds[9] = 6;
    image.set(array_value("tokenizer.ggml.token_type", GgufType::i32, kinds));
    image.set(tokens_with(std::move(text)));
    return refusal(image);
  };
  GgufKeyValue long_token = tokens_with("long");
  const uint64_t length = (1ull << 31) + 1;
  std::memcpy(long_token.payload.data() + 12, &length, 8);
  EXPECT_EQ(with(long_token), "string_length");
  EXPECT_EQ(with(tokens_with(std::string((64 << 10) + 1, 'x'))), "token_length");
  EXPECT_EQ(with(tokens_with(std::string(64 << 10, 'x'))), "");
  for (const char* text : {"<0x-1>", "<0xGG>", "<0x100>", "<0x1>", "0x10", "", "<0x0A> "})
    EXPECT_EQ(byte_token(text), "byte_token") << text;
  EXPECT_EQ(byte_token("<0x0a>"), "");
  for (const char* merge : {"", " ", "ab", " b", "a "})
    EXPECT_EQ(with(array_value<std::string>("tokenizer.ggml.merges", GgufType::string, {"h e", merge})),
              "merge")
        << merge;
  EXPECT_EQ(with(array_value<float>("tokenizer.ggml.scores", GgufType::f32, {1, 2})), "vocabulary_count");
  std::vector<float> scores(267, 1.0f);
  scores[5] = __builtin_nanf("");
  EXPECT_EQ(with(array_value("tokenizer.ggml.scores", GgufType::f32, scores)), "token_score");
  EXPECT_EQ(with(array_value<int32_t>("tokenizer.ggml.token_type", GgufType::i32, {1})), "vocabulary_count");
  for (const int32_t kind : {0, 7, -1, INT32_MIN}) {
    std::vector<int32_t> kinds(267, 1);
    kinds[266] = kind;
    EXPECT_EQ(with(array_value("tokenizer.ggml.token_type", GgufType::i32, kinds)), "token_kind") << kind;
  }
  for (const char* which : {"bos", "eos", "unknown", "padding", "eot"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", which);
    for (const int64_t id : {int64_t{-1}, int64_t{267}, int64_t{1} << 31, int64_t{1} << 32, INT64_MIN})
      EXPECT_EQ(with(number_value(key, GgufType::i64, id)), "special_id") << key << " " << id;
    EXPECT_EQ(with(number_value(key, GgufType::u8, uint8_t{255})), "");
  }
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.model"}) {
    GgufImage image = tiny_llama();
    image.erase(key);
    EXPECT_EQ(refusal(image), "vocabulary_missing");
  }
}

TEST(GgufHostile, a_vocabulary_has_a_largest_size) {
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    GgufKeyValue value{.key = key, .type = static_cast<uint32_t>(GgufType::array), .payload = {}};
    append(value.payload, static_cast<uint32_t>(GgufType::string));
    append<uint64_t>(value.payload, limits::kVocabularyTokens + 1);
    value.payload.resize(12 + 8 * (limits::kVocabularyTokens + 1));  // so many empty strings
    GgufImage image = tiny_llama();
    image.set(std::move(value));
    EXPECT_EQ(refusal(image), "vocabulary_size") << key;
  }
}

TEST(GgufHostile, a_vocabulary_with_one_text_twice_makes_no_tokenizer) {
  GgufImage image = tiny_llama();
  image.set(array_value("tokenizer.ggml.tokens", GgufType::string, std::vector<std::string>(267, "same")));
  const std::string file = serialise(image);
  EXPECT_THROW(tokenizer::make_tokenizer(parse_gguf("hostile.gguf", bytes_of(file))->vocabulary()), Error);
}

// T-FUZZ-GGUF
TEST(GgufHostile, thousands_of_mutated_files_are_refused_or_can_be_used) {
  const auto report = run_hostile_files(hostile_files(), 1, [](const WeightFile& file) {
    read_everything(file);
    const auto tokenizer = tokenizer::make_tokenizer(file.vocabulary());
    tokenizer->encode("hello, the world \xff<|im_end|>", tokenizer::Special::parse);
  });
  report.print();
  EXPECT_GE(report.past_header * 10, report.files * 7);
  EXPECT_GT(report.accepted, report.files / 50);
  EXPECT_GE(report.refused.size(), 20u);
}

}  // namespace
}  // namespace neutrino::weights
