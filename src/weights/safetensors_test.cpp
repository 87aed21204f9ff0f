// T-ST-01: safetensors files that lie, and sets of them that do not belong together.
#include "weights/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/limits.h"
#include "weights/shard_name.h"
#include "weights/testing/safetensors_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing
using ::testing::HasSubstr;

// Two tensors: a (2, 3) of F32, b (4) of F16.
StImage two_tensors() {
  StImage image;
  image.tensors.push_back(
      {.name = "a", .dtype = "F32", .shape = {2, 3}, .data = floats_as("F32", {1, 2, 3, 4, 5, 6})});
  image.tensors.push_back(
      {.name = "b", .dtype = "F16", .shape = {4}, .data = floats_as("F16", {1, 2, 3, 4})});
  return image;
}

// The check that refuses a file, or "" where it opens.
std::string refusal(const std::string& file) {
  const std::unique_ptr<std::byte[]> bytes(
      new std::byte[file.size()]);  // the exact size, for AddressSanitizer
  std::memcpy(bytes.get(), file.data(), file.size());
  try {
    parse_safetensors({bytes.get(), file.size()});
    return "";
  } catch (const Error& error) {
    EXPECT_FALSE(error.reason().empty()) << error.message();
    return error.reason();
  }
}
std::string refusal(const StImage& image) { return refusal(serialise(image)); }

TEST(Safetensors, a_good_file_says_what_was_written) {
  const std::string text = serialise(two_tensors());
  const SafetensorsFile file = parse_safetensors(std::as_bytes(std::span(text)));
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "a");
  EXPECT_EQ(file.tensors[0].type, StType::f32);
  EXPECT_EQ(file.tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensors[0].bytes, 24);
  EXPECT_EQ(file.tensors[0].elements(), 6);
  float values[6];
  std::memcpy(values, file.tensors[0].data, sizeof values);
  EXPECT_THAT(values, ::testing::ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(file.tensors[1].data, file.tensors[0].data + 24);
  EXPECT_THAT(file.metadata, ::testing::ElementsAre(std::pair("format", "pt")));
}

TEST(Safetensors, all_types_of_the_format_have_their_size) {
  const std::pair<const char*, int64_t> types[] = {
      // bits
      {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"I16", 16},       {"U16", 16},    {"I32", 32},
      {"U32", 32},    {"I64", 64},    {"U64", 64},        {"F16", 16},       {"BF16", 16},   {"F32", 32},
      {"F64", 64},    {"C64", 64},    {"F4", 4},          {"F6_E2M3", 6},    {"F6_E3M2", 6}, {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
  for (const auto& [name, bits] : types) {
    StImage image;
    image.tensors.push_back(
        {.name = "t", .dtype = name, .shape = {4, 2}, .data = std::string(static_cast<size_t>(bits), 'x')});
    EXPECT_EQ(refusal(image), "") << name;
    image.tensors[0].data += 'x';
    EXPECT_EQ(refusal(image), "tensor_bytes") << name;
  }
  StImage image;
  image.tensors.push_back({.name = "t", .dtype = "F4", .shape = {3}, .data = "xx"});
  EXPECT_EQ(refusal(image), "tensor_size") << "one byte and a half";
}

TEST(Safetensors, scalars_and_empty_tensors_are_tensors) {
  StImage image = two_tensors();
  image.tensors.insert(image.tensors.begin() + 1,
                       {.name = "empty", .dtype = "I32", .shape = {0, 7}, .data = ""});
  image.tensors.push_back({.name = "scalar", .dtype = "F64", .shape = {}, .data = "12345678"});
  EXPECT_EQ(refusal(image), "");
}

TEST(Safetensors, a_header_that_lies_about_its_length_is_refused) {
  for (const auto& [length, reason] : {std::pair<uint64_t, const char*>{~0ull, "header_length"},
                                       {1ull << 63, "header_length"},
                                       {uint64_t{limits::kSafetensorsHeaderBytes} + 1, "header_length"},
                                       {uint64_t{limits::kSafetensorsHeaderBytes}, "truncated"},
                                       {1 << 20, "truncated"},
                                       {0, "header_start"},
                                       {1, "invalid_json"},
                                       {8, "invalid_json"}}) {
    StImage image = two_tensors();
    image.header_length = length;
    EXPECT_EQ(refusal(image), reason) << length;
  }
  EXPECT_EQ(refusal(std::string("1234567")), "truncated");
  EXPECT_EQ(refusal(std::string()), "truncated");
}

TEST(Safetensors, a_file_that_ends_early_is_refused_wherever_it_ends) {
  const std::string file = serialise(two_tensors());
  for (size_t end = 0; end < file.size(); ++end) EXPECT_NE(refusal(file.substr(0, end)), "") << end;
  EXPECT_EQ(refusal(file), "");
}

TEST(Safetensors, headers_that_are_no_strict_json_are_refused) {
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const auto with = [](std::string header) {
    StImage image;
    image.header = std::move(header);
    image.tail = "1234";
    return refusal(image);
  };
  EXPECT_EQ(with("{" + a + "}"), "");
  EXPECT_EQ(with("{" + a + "}   "), "") << "padding";
  EXPECT_EQ(with(" {" + a + "}"), "header_start");
  EXPECT_EQ(with("[" + a + "]"), "header_start");
  EXPECT_EQ(with("{" + a + "}x"), "invalid_json");
  EXPECT_EQ(with("{" + a), "invalid_json");
  EXPECT_EQ(with("{" + a + ",}"), "invalid_json");
  EXPECT_EQ(with("{" + a + "," + a + "}"), "invalid_json") << "one name twice";
  EXPECT_EQ(with(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})"), "invalid_json");
  EXPECT_EQ(with(std::string("{\"a\xff\":") + a.substr(4) + "}"), "invalid_json") << "not UTF-8";
  EXPECT_EQ(with("{\"a\":" + std::string(10000, '[') + std::string(10000, ']') + "}"), "invalid_json")
      << "deep";
  EXPECT_EQ(with("{}"), "no_tensors");
  EXPECT_EQ(with(R"({"__metadata__":{"a":"b"}})"), "no_tensors");
  for (const char* metadata :
       {"1", "[]", "\"x\"", "null", R"({"a":1})", R"({"a":null})", R"({"a":["b"]})", R"({"a":{}})"})
    EXPECT_EQ(with(std::string(R"({"__metadata__":)") + metadata + "," + a + "}"), "metadata") << metadata;
}

TEST(Safetensors, tensors_that_lie_are_refused) {
  const auto with = [](const char* entry) {
    StImage image;
    image.tensors.push_back({.name = "a", .data = "12345678", .entry = entry});
    return refusal(image);
  };
  const std::pair<const char*, const char*> cases[] = {
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", ""},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", "tensor_range"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,16]})", "tensor_bytes"},
      {R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})", "tensor_range"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[9223372036854775800,9223372036854775807]})",
       "tensor_bytes"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[9223372036854775799,9223372036854775807]})",
       "tensor_range"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", "unused_bytes"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", "unused_bytes"},
      {R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", "tensor_bytes"},
      {R"({"dtype":"F64","shape":[2],"data_offsets":[0,8]})", "tensor_bytes"},
      {R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", "tensor_number"},
      {R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", "tensor_number"},
      {R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})", "tensor_number"},
      {R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})", "tensor_number"},
      {R"({"dtype":"F32","shape":[1e30],"data_offsets":[0,8]})", "tensor_number"},
      {R"({"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,8]})", "tensor_size"},
      {R"({"dtype":"F32","shape":[2305843009213693952],"data_offsets":[0,8]})", "tensor_size"},
      {R"({"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]})", "tensor_size"},
      {R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})", "dimensions"},
      {R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})", "tensor_field"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", "tensor_field"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})", "tensor_field"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})", "tensor_number"},
      {R"({"dtype":"F32","shape":[2]})", "tensor_field"},
      {R"({"dtype":"F32","data_offsets":[0,8]})", "tensor_field"},
      {R"({"shape":[2],"data_offsets":[0,8]})", "tensor_field"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"code":"x"})", "tensor_field"},
      {R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})", "tensor_field"},
      {R"({"dtype":"f32","shape":[2],"data_offsets":[0,8]})", "tensor_type"},
      {R"({"dtype":"F128","shape":[2],"data_offsets":[0,8]})", "tensor_type"},
      {"[]", "tensor_field"},
      {"null", "tensor_field"},
      {"\"F32\"", "tensor_field"},
  };
  for (const auto& [entry, reason] : cases) EXPECT_EQ(with(entry), reason) << entry;
}

TEST(Safetensors, the_tensors_fill_the_data_in_their_order) {
  StImage image = two_tensors();
  image.tensors[1].offsets = "[16,24]";
  EXPECT_EQ(refusal(image), "tensor_overlap");
  image = two_tensors();
  image.tail = "x";
  EXPECT_EQ(refusal(image), "unused_bytes");
  image = two_tensors();  // a hole
  image.tensors[1].offsets = "[32,40]";
  image.tail = "12345678";
  EXPECT_EQ(refusal(image), "unused_bytes");
  image = two_tensors();  // listed the other way round
  image.tensors[0].offsets = "[8,32]";
  image.tensors[1].offsets = "[0,8]";
  EXPECT_EQ(refusal(image), "unused_bytes");
}

TEST(Safetensors, names_are_printable) {
  for (const char* name : {"", "a b", "a\n", "caf\xc3\xa9", "\x7f"}) {
    StImage image = two_tensors();
    image.tensors[0].name = name;
    EXPECT_EQ(refusal(image), "tensor_name") << name;
  }
  StImage image = two_tensors();
  image.tensors[0].name = std::string(static_cast<size_t>(limits::kSafetensorsNameBytes) + 1, 'n');
  EXPECT_EQ(refusal(image), "tensor_name");
}

// ---- sets

TEST(ShardName, parts_are_told_by_their_names) {
  const auto shard = shard_name("model-00002-of-00004.safetensors");
  ASSERT_TRUE(shard);
  EXPECT_EQ(shard->stem, "model");
  EXPECT_EQ(shard->number, 2);
  EXPECT_EQ(shard->count, 4);
  EXPECT_EQ(shard->file(3), "model-00003-of-00004.safetensors");
  for (const char* name :
       {"model.safetensors", "model-00000-of-00004.safetensors", "model-00005-of-00004.safetensors",
        "model-0001-of-0004.safetensors", "model-00001-of-99999.safetensors", "-00001-of-00002",
        "model-00001_of_00004.safetensors", "model-+0001-of-00004.safetensors"})
    EXPECT_FALSE(shard_name(name)) << name;
  EXPECT_EQ(gguf_shard_name("d/m-00002-of-00013.gguf")->stem, "d/m");
  for (const char* name : {"m.gguf", "model-00002-of-00004.safetensors", "-00001-of-00002.gguf"})
    EXPECT_FALSE(gguf_shard_name(name)) << name;
}

struct Set {
  TemporaryFolder folder;

  void put(const std::string& file, const std::string& tensor) {
    StImage image;
    image.tensors.push_back({.name = tensor, .dtype = "F32", .shape = {1}, .data = "1234"});
    folder.put(file, serialise(image));
  }
  void index(const std::string& weight_map) {
    folder.put("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + weight_map + "}");
  }
  Error refusal() const {
    try {
      open_safetensors_folder(folder.path(), Links::follow);
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::internal, "it was opened");
  }
  std::vector<std::string> names() const {
    const SafetensorsSet set = open_safetensors_folder(folder.path(), Links::follow);
    std::vector<std::string> names;
    for (const auto& [name, tensor] : set.tensors()) names.push_back(name);
    return names;
  }
};

TEST(SafetensorsSet, one_file_or_shards_with_or_without_an_index) {
  using ::testing::ElementsAre;
  Set one;
  one.put("model.safetensors", "a");
  EXPECT_THAT(one.names(), ElementsAre("a"));
  Set other_name;
  other_name.put("weights.safetensors", "a");
  other_name.put("adapter_model.safetensors", "lora");
  EXPECT_THAT(other_name.names(), ElementsAre("a"));
  Set shards;
  shards.put("model-00001-of-00002.safetensors", "a");
  shards.put("model-00002-of-00002.safetensors", "b");
  EXPECT_THAT(shards.names(), ElementsAre("a", "b"));
  shards.put("consolidated.safetensors", "c");
  EXPECT_THAT(shards.names(), ElementsAre("a", "b"));
  shards.index(R"({"c":"consolidated.safetensors"})");
  EXPECT_THAT(shards.names(), ElementsAre("c")) << "the index has the word";
}

TEST(SafetensorsSet, a_missing_shard_is_named) {
  Set set;
  set.put("model-00001-of-00003.safetensors", "a");
  set.put("model-00003-of-00003.safetensors", "c");
  EXPECT_EQ(set.refusal().reason(), "shard_missing");
  EXPECT_THAT(set.refusal().message(), HasSubstr("model-00002-of-00003.safetensors"));
  set.index(R"({"a":"model-00001-of-00003.safetensors","b":"other.safetensors"})");
  EXPECT_EQ(set.refusal().reason(), "shard_missing");
  EXPECT_THAT(set.refusal().message(), HasSubstr("other.safetensors"));
}

TEST(SafetensorsSet, a_tensor_stands_in_one_shard_only) {
  Set set;
  set.put("model-00001-of-00002.safetensors", "a");
  set.put("model-00002-of-00002.safetensors", "a");
  EXPECT_EQ(set.refusal().reason(), "duplicate_tensor");
}

TEST(SafetensorsSet, an_index_that_lies_is_refused) {
  Set set;
  set.put("x.safetensors", "a");
  set.put("y.safetensors", "b");
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a":"x.safetensors","b":"y.safetensors"})", "internal"},
      {R"({"a":"y.safetensors","b":"x.safetensors"})", "index_tensor"},
      {R"({"a":"x.safetensors","z":"y.safetensors"})", "index_tensor"},
      {R"({"a":"../x.safetensors"})", "shard_name"},
      {R"({"a":"/etc/x.safetensors"})", "shard_name"},
      {R"({"a":"sub/x.safetensors"})", "shard_name"},
      {R"({"a":"..\\x.safetensors"})", "shard_name"},
      {R"({"a":".x.safetensors"})", "shard_name"},
      {R"({"a":"c:x.safetensors"})", "shard_name"},
      {R"({"a":"x.bin"})", "shard_name"},
      {R"({"a":""})", "shard_name"},
      {R"({"a":"x.safetensors\u0000"})", "shard_name"},
      {R"({"a":1})", "index"},
      {R"({})", "index"},
      {R"([])", "index"},
      {R"({"a":"x.safetensors","a":"x.safetensors"})", "invalid_json"},
  };
  for (const auto& [map, reason] : cases) {
    set.index(map);
    const Error error = set.refusal();
    EXPECT_EQ(error.reason().empty() ? "internal" : error.reason(), reason) << map << ": " << error.message();
  }
}

TEST(SafetensorsSet, files_that_nothing_orders_are_refused) {
  Set set;
  EXPECT_EQ(set.refusal().reason(), "checkpoint_missing");
  set.put("x.safetensors", "a");
  set.put("y.safetensors", "b");
  EXPECT_EQ(set.refusal().reason(), "checkpoint_files");
}

}  // namespace
}  // namespace neutrino::weights
