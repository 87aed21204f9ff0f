#include "weights/gguf_writer.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "compute/testing/random_block.h"
#include "weights/gguf.h"
#include "weights/testing/gguf_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using compute::DType;
using testing::TemporaryFolder;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

GgufKeyValues one_of_each_type() {
  GgufKeyValues values;
  values.set("t.u8", uint8_t{200}), values.set("t.i8", int8_t{-100});
  values.set("t.u16", uint16_t{60000}), values.set("t.i16", int16_t{-30000});
  values.set("t.u32", uint32_t{4000000000}), values.set("t.i32", int32_t{-2000000000});
  values.set("t.u64", uint64_t{1} << 63), values.set("t.i64", INT64_MIN);
  values.set("t.f32", 1.5f), values.set("t.f64", 0.1), values.set("t.bool", true);
  values.set("t.text", "Grüße\n"), values.set("t.empty", "");
  values.set("t.u16s", std::vector<uint16_t>{1, 2, 3}), values.set("t.f64s", std::vector<double>{0.5});
  values.set("t.bools", std::vector<bool>{true, false}), values.set("t.none", std::vector<int32_t>{});
  values.set("t.texts", std::vector<std::string>{"a", "", "bc"});
  return values;
}

TEST(GgufWriter, what_is_written_is_read) {
  const TemporaryFolder folder;
  const std::vector<GgufTensorInfo> tensors = {
      {"a.weight", DType::f32, {3}}, {"b.weight", DType::q8_0, {2, 64}}, {"c.weight", DType::f16, {2, 2, 5}}};
  const std::string data[] = {std::string(12, 'a'), std::string(2 * 68, 'b'), std::string(40, 'c')};
  write_gguf(folder.path() / "x.gguf", one_of_each_type(), tensors, [&](size_t i, const GgufSink& sink) {
    const auto bytes = std::as_bytes(std::span(data[i]));
    sink(bytes.first(7)), sink(bytes.subspan(7));  // in pieces of any size
  });
  const auto file = open_weight_file(folder.path() / "x.gguf");
  ASSERT_EQ(file->tensors().size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const TensorEntry& tensor = file->tensors()[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.dtype, tensors[i].dtype);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    EXPECT_EQ(text_of({tensor.data, static_cast<size_t>(tensor.bytes)}), data[i]);
  }
}

TEST(GgufWriter, every_type_of_value_is_read_back) {
  const std::vector<GgufTensorInfo> tensors = {{"a.weight", DType::f32, {8}}};
  const std::string file = gguf_header(one_of_each_type(), tensors) + std::string(32, '\0');
  Reader reader(std::as_bytes(std::span(file)));
  reader.take(24, "header");
  const auto read = GgufMetadata::parse(reader, one_of_each_type().size());
  EXPECT_EQ(read.find("t.u8")->at<uint8_t>(0), 200);
  EXPECT_EQ(read.integer("t.i8"), -100);
  EXPECT_EQ(read.integer("t.u16"), 60000);
  EXPECT_EQ(read.integer("t.i16"), -30000);
  EXPECT_EQ(read.integer("t.u32"), 4000000000);
  EXPECT_EQ(read.integer("t.i32"), -2000000000);
  EXPECT_EQ(read.find("t.u64")->at<uint64_t>(0), uint64_t{1} << 63);
  EXPECT_EQ(read.integer("t.i64"), INT64_MIN);
  EXPECT_EQ(read.number("t.f32"), 1.5);
  EXPECT_EQ(read.number("t.f64"), 0.1);
  EXPECT_EQ(read.boolean("t.bool"), true);
  EXPECT_EQ(read.text("t.text"), "Grüße\n");
  EXPECT_EQ(read.text("t.empty"), "");
  EXPECT_EQ(read.find("t.u16s")->type_name(), "array of u16");
  EXPECT_EQ(read.find("t.u16s")->at<uint16_t>(2), 3);
  EXPECT_EQ(read.find("t.bools")->type_name(), "array of bool");
  EXPECT_EQ(read.find("t.none")->count, 0);
  EXPECT_EQ(read.texts("t.texts"), (std::vector<std::string_view>{"a", "", "bc"}));
}

TEST(GgufWriter, values_of_other_files_get_the_usual_widths) {
  const std::vector<GgufTensorInfo> tensors = {{"a.weight", DType::f32, {8}}};
  const auto type_of = [&](const MetadataValue& value) {
    GgufKeyValues values;
    values.set("x", value);
    const std::string file = gguf_header(values, tensors);
    Reader reader(std::as_bytes(std::span(file)));
    reader.take(24, "header");
    return GgufMetadata::parse(reader, 1).find("x")->type_name();
  };
  EXPECT_EQ(type_of(int64_t{4000000000}), "u32");
  EXPECT_EQ(type_of(int64_t{-1}), "i32");
  EXPECT_EQ(type_of(int64_t{1} << 32), "i64");
  EXPECT_EQ(type_of(0.5), "f32");
  EXPECT_EQ(type_of(true), "bool");
  EXPECT_EQ(type_of(std::string("x")), "string");
  EXPECT_EQ(type_of(std::vector<int64_t>{1, -2}), "array of i32");
  EXPECT_EQ(type_of(std::vector<int64_t>{int64_t{1} << 40}), "array of i64");
  EXPECT_EQ(type_of(std::vector<double>{1}), "array of f32");
  EXPECT_EQ(type_of(std::vector<bool>{true}), "array of bool");
  EXPECT_EQ(type_of(std::vector<std::string>{"x"}), "array of string");
}

// Copying all of a file, as a conversion does that changes nothing: the same model, and again the same bytes.
TEST(GgufWriter, a_copied_model_is_the_model) {
  const TemporaryFolder folder;
  auto image = testing::tiny_llama();
  image.alignment = 64;
  image.set(testing::u32_value("general.alignment", 64));
  layout(image);
  const auto copy_of = [&](const std::string& source) {
    const auto file = parse_gguf("source.gguf", std::as_bytes(std::span(source)));
    GgufKeyValues values;
    for (const auto& [key, value] : dynamic_cast<const GgufMetadata&>(file->metadata()).values())
      values.set(key, value);
    std::vector<GgufTensorInfo> infos;
    for (const TensorEntry& tensor : file->tensors())
      infos.push_back({tensor.name, tensor.dtype, tensor.shape});
    write_gguf(folder.path() / "copy.gguf", values, infos, [&](size_t i, const GgufSink& sink) {
      sink({file->tensors()[i].data, static_cast<size_t>(file->tensors()[i].bytes)});
    });
    return read_file(folder.path() / "copy.gguf", 1 << 20);
  };
  const std::string source = serialise(image), copy = copy_of(source);
  const auto a = parse_gguf("a", std::as_bytes(std::span(source))),
             b = parse_gguf("b", std::as_bytes(std::span(copy)));
  EXPECT_EQ(a->vocabulary().tokens, b->vocabulary().tokens);
  EXPECT_EQ(a->vocabulary().merges, b->vocabulary().merges);
  EXPECT_EQ(a->chat_template(), b->chat_template());
  EXPECT_FALSE(b->metadata().has("general.alignment"));
  for (const TensorEntry& tensor : a->tensors())
    EXPECT_EQ(text_of({tensor.data, static_cast<size_t>(tensor.bytes)}),
              text_of({b->find(tensor.name)->data, static_cast<size_t>(tensor.bytes)}));
  EXPECT_EQ(copy_of(copy), copy);
}

TEST(GgufWriter, a_value_that_is_set_again_keeps_its_place) {
  GgufKeyValues values;
  values.set("a", 1.0f), values.set("b", uint32_t{2}), values.set("a", "text");
  EXPECT_EQ(values.size(), 2u);
  GgufKeyValues same;
  same.set("a", "text"), same.set("b", uint32_t{2});
  const std::vector<GgufTensorInfo> tensors = {{"a.weight", DType::f32, {8}}};
  EXPECT_EQ(gguf_header(values, tensors), gguf_header(same, tensors));
  same.erase("b");
  EXPECT_FALSE(same.has("b"));
  EXPECT_NE(gguf_header(values, tensors), gguf_header(same, tensors));
}

std::string refusal_of(const GgufTensorInfo& tensor) {
  try {
    gguf_tensor_bytes(tensor);
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}

TEST(GgufWriter, what_no_reader_would_accept_is_not_written) {
  EXPECT_EQ(refusal_of({"a.weight", DType::q4_k, {2, 256}}), "");
  EXPECT_EQ(
      refusal_of({"a.weight", DType::q4_k, {2, 576}}),
      "tensor \"a.weight\" of shape (2, 576) cannot be written as q4_k: it must have 1-4 dimensions and "
      "rows of whole quant blocks of 256 weights");
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{}, {0}, {-1, 32}, {1, 1, 1, 1, 1}, {INT64_MAX, 2}})
    EXPECT_NE(refusal_of({"a.weight", DType::f32, shape}), "");
  EXPECT_NE(refusal_of({"", DType::f32, {1}}), "");
  EXPECT_NE(refusal_of({"with space", DType::f32, {1}}), "");
  EXPECT_NE(refusal_of({std::string(65, 'x'), DType::f32, {1}}), "");
  GgufKeyValues values;
  EXPECT_THROW(values.set("with space", 1.0f), Error);
  EXPECT_THROW(values.set("text", std::string(limits::kGgufStringBytes + 1, 'x')), Error);
  EXPECT_THROW(gguf_header(values, {}), Error);
  const GgufTensorInfo twice[] = {{"a", DType::f32, {1}}, {"a", DType::f32, {1}}};
  EXPECT_THROW(gguf_header(values, twice), Error);
  const int64_t half = INT64_MAX / 8;
  const GgufTensorInfo huge[] = {
      {"a", DType::f32, {half}}, {"b", DType::f32, {half}}, {"c", DType::f32, {half}}};
  EXPECT_THROW(gguf_header(values, huge), Error);
}

TEST(GgufWriter, a_failed_write_leaves_what_was_there) {
  const TemporaryFolder folder;
  const auto path = folder.put("x.gguf", "old");
  const std::vector<GgufTensorInfo> tensors = {{"a.weight", DType::f32, {2}}, {"b.weight", DType::f32, {2}}};
  EXPECT_THROW(write_gguf(path, {}, tensors,
                          [](size_t i, const GgufSink& sink) {
                            if (i == 1) throw make_error(ErrorCode::internal, "no more");
                            sink(std::as_bytes(std::span("12345678", 8)));
                          }),
               Error);
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  EXPECT_THROW(write_gguf(folder.path() / "missing" / "x.gguf", {}, tensors, {}), Error);
}

}  // namespace
}  // namespace neutrino::weights
