// Quantised checkpoints: tests/golden/checkpoint holds small tensors of every scheme and what the scheme's own library makes
// of them (tools/make_checkpoint_golden.py).
#include "weights/checkpoint_quantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "weights/checkpoint_transform.h"
#include "weights/testing/safetensors_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using compute::DType;
using ::testing::HasSubstr;

const std::filesystem::path kGolden = std::filesystem::path(NEUTRINO_SOURCE_DIR) / "tests/golden/checkpoint";

struct Golden {
  SafetensorsSet parts, expected;
  json::object config;
  Sources sources;

  explicit Golden(const std::string& name) {
    parts.add(kGolden / (name + ".safetensors"), "", Links::follow);
    expected.add(kGolden / (name + ".expected.safetensors"), "", Links::follow);
    const SafetensorsFile header = parse_safetensors(expected.files()[0].bytes());
    for (const auto& [key, text] : header.metadata)
      if (key == "config") config = parse_json(text).as_object();
    sources = make_sources(parts, config);
  }
};

// All values of a source in float32, its own second scale included.
std::vector<float> values_of(const Source& source) {
  std::vector<float> values;
  const int64_t row_bytes = compute::row_bytes(source.dtype(), source.columns()).value();
  for (int64_t m = 0; m < source.matrices(); ++m) {
    const TensorData data = source.matrix(m);
    for (int64_t r = 0; r < source.rows(); ++r) {
      std::vector<float> row(static_cast<size_t>(source.columns()));
      compute::dequantize_row(source.dtype(), data.data + r * row_bytes, source.columns(), row.data());
      for (const float value : row) values.push_back(value * source.scale(m));
    }
  }
  return values;
}

DType dtype_of(StType type) {
  return type == StType::f16 ? DType::f16 : type == StType::bf16 ? DType::bf16 : DType::f32;
}

TEST(CheckpointQuantized, values_are_those_of_each_schemes_own_library) {
  const char* names[] = {"gptq4",
                         "gptq4_act_order",
                         "gptq4_v2",
                         "gptq8",
                         "awq",
                         "packed_int4",
                         "packed_int4_zero",
                         "packed_int4_channel",
                         "packed_int8",
                         "packed_int4_act_order",
                         "fp8_tensor",
                         "fp8_channel",
                         "fp8_blocks",
                         "mxfp4_packed",
                         "mxfp4_blocks",
                         "bnb_nf4",
                         "bnb_nf4_double",
                         "bnb_fp4"};
  for (const char* name : names) {
    const Golden golden(name);
    EXPECT_EQ(golden.sources.size(), golden.expected.tensors().size()) << name << ": all parts are used";
    for (const auto& [tensor, expected] : golden.expected.tensors()) {
      const auto found = golden.sources.find(tensor);
      ASSERT_NE(found, golden.sources.end()) << name << " " << tensor;
      const Source& source = *found->second;
      EXPECT_EQ(source.shape(), expected.shape) << name;
      EXPECT_TRUE(source.dtype() == DType::mxfp4 || source.dtype() == dtype_of(expected.type)) << name;
      EXPECT_EQ(values_of(source), values_of(*plain_source(expected))) << name << " " << tensor;
    }
  }
}

// A float32 product of the two scales and the value differs from the exact one in its last bits.
TEST(CheckpointQuantized, nvfp4_has_two_scales) {
  for (const auto& [name, dtype] :
       {std::pair{"nvfp4", DType::nvfp4}, {"nvfp4_modelopt", DType::nvfp4}, {"nvfp4_narrow", DType::f32}}) {
    const Golden golden(name);
    const Source& source = *golden.sources.at("x.weight");
    EXPECT_EQ(source.dtype(), dtype) << name;
    const StTensor& expected = golden.expected.tensors().at("x.weight");
    EXPECT_EQ(source.shape(), expected.shape);
    const std::vector<float> values = values_of(source);
    ASSERT_EQ(static_cast<int64_t>(values.size()), expected.elements());
    double largest = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      double exact;
      std::memcpy(&exact, expected.data + i * 8, 8);
      EXPECT_LE(std::abs(values[i] - exact), std::abs(exact) * 0x1p-22) << name << " " << i;
      largest = std::max(largest, std::abs(exact));
    }
    EXPECT_GT(largest, 1);
  }
}

TEST(CheckpointQuantized, rows_of_blocks_can_be_put_in_another_order) {
  const Golden golden("mxfp4_blocks");
  const CanonicalTensor every_second(
      {.name = "gate", .sources = {"x.gate_up_proj"}, .transform = {.rows = {0, 2}}}, golden.sources);
  EXPECT_EQ(every_second.entry().dtype, DType::mxfp4);
  EXPECT_EQ(every_second.entry().shape, (std::vector<int64_t>{2, 2, 64}));
  const std::vector<float> all = values_of(*golden.sources.at("x.gate_up_proj"));
  std::vector<float> row(64);
  const TensorData slice = every_second.read_slice(1);
  compute::dequantize_row(DType::mxfp4, slice.data + compute::row_bytes(DType::mxfp4, 64).value(), 64,
                          row.data());
  EXPECT_EQ(row, std::vector<float>(all.begin() + (4 + 2) * 64, all.begin() + (4 + 3) * 64));
  const CanonicalTensor transposed(
      {.name = "t", .sources = {"x.gate_up_proj"}, .transform = {.transpose = true}}, golden.sources);
  EXPECT_EQ(transposed.entry().dtype, DType::f32) << "a block cannot be torn apart";
  float value;
  std::memcpy(&value, transposed.read().data + 4 * (3 * 4 + 1), 4);  // column 3, row 1 of the first matrix
  EXPECT_EQ(value, all[64 + 3]);
}

// ---- parts that do not fit

struct Broken {
  testing::TemporaryFolder folder;
  testing::StImage image;
  json::object config;
  std::string expected = "x.weight";  // of the source that the parts make

  explicit Broken(const std::string& name) {
    const Golden golden(name);
    config = golden.config;
    expected = golden.expected.tensors().begin()->first;
    for (const auto& [tensor, part] : golden.parts.tensors())
      image.tensors.push_back(
          {.name = tensor,
           .dtype = std::string(st_type_name(part.type)),
           .shape = part.shape,
           .data = std::string(reinterpret_cast<const char*>(part.data), static_cast<size_t>(part.bytes))});
  }
  std::string refusal() const {
    SafetensorsSet set;
    set.add(folder.put("x.safetensors", serialise(image)), "", Links::follow);
    try {
      const Sources sources = make_sources(set, config);
      for (const auto& [name, source] : sources) {
        if (name != expected || !source->unusable().empty())
          return "a part is left over: " + name;  // which a layout refuses
        values_of(*source);
      }
    } catch (const Error& error) {
      return error.reason() + ": " + error.message();
    }
    return "";
  }
};

TEST(CheckpointQuantized, a_missing_part_is_named) {
  for (const auto& [scheme, part] : {std::pair{"gptq4", "x.scales"},
                                     {"gptq4", "x.qzeros"},
                                     {"awq", "x.scales"},
                                     {"packed_int4", "x.weight_scale"},
                                     {"packed_int4", "x.weight_shape"},
                                     {"bnb_nf4", "x.weight.absmax"},
                                     {"bnb_nf4_double", "x.weight.nested_quant_map"}}) {
    Broken broken(scheme);
    EXPECT_EQ(broken.refusal(), "") << scheme;
    std::erase_if(broken.image.tensors, [&](auto& tensor) { return tensor.name == part; });
    EXPECT_THAT(broken.refusal(), HasSubstr(part)) << scheme;
  }
}

TEST(CheckpointQuantized, parts_of_other_types_and_shapes_are_refused) {
  for (const char* scheme : {"gptq4", "gptq4_act_order", "gptq8", "awq", "packed_int4", "packed_int4_zero",
                             "packed_int4_act_order", "fp8_channel", "nvfp4", "nvfp4_modelopt",
                             "mxfp4_blocks", "mxfp4_packed", "bnb_nf4", "bnb_nf4_double"}) {
    const Broken good(scheme);
    for (size_t i = 0; i < good.image.tensors.size(); ++i) {
      if (good.image.tensors[i].name.ends_with("input_scale")) continue;  // not used
      Broken type(scheme);
      testing::StImageTensor& retyped = type.image.tensors[i];
      retyped.shape.push_back(static_cast<int64_t>(retyped.data.size()));
      retyped.shape = {static_cast<int64_t>(retyped.data.size())};
      retyped.dtype = "BOOL";
      EXPECT_NE(type.refusal(), "") << scheme << " " << retyped.name;
      if (good.image.tensors[i].name == "x.weight" && std::string_view(scheme) == "fp8_channel")
        continue;  // fits
      Broken shape(scheme);
      testing::StImageTensor& longer = shape.image.tensors[i];
      if (longer.shape.empty()) longer.shape = {1};
      longer.shape.back() += 1;
      longer.data += std::string(longer.data.size(), '\1');
      int64_t elements = 1, old = 1;
      for (const int64_t size : longer.shape) elements *= size;
      for (const int64_t size : good.image.tensors[i].shape) old *= size;
      longer.data.resize(
          good.image.tensors[i].data.size() / static_cast<size_t>(old) * static_cast<size_t>(elements), '\1');
      EXPECT_NE(shape.refusal(), "") << scheme << " " << longer.name;
    }
  }
}

TEST(CheckpointQuantized, groups_out_of_range_are_refused) {
  for (const auto& [scheme, part] :
       {std::pair{"gptq4_act_order", "x.g_idx"}, {"packed_int4_act_order", "x.weight_g_idx"}})
    for (const int32_t group : {-2, 64, INT32_MAX, INT32_MIN}) {
      Broken broken(scheme);
      std::memcpy(broken.image.find(part)->data.data() + 8, &group, 4);
      EXPECT_THAT(broken.refusal(), HasSubstr("must hold groups")) << group;
    }
}

TEST(CheckpointQuantized, what_is_not_known_is_refused_by_name) {
  const auto with = [](const char* field, json::value value) {
    Broken broken("gptq4");
    broken.config["quantization_config"].as_object()[field] = std::move(value);
    return broken.refusal();
  };
  EXPECT_THAT(with("quant_method", "hqq"), HasSubstr("hqq"));
  EXPECT_THAT(with("quant_method", "awq"), HasSubstr("groups"));  // the shapes are GPTQ's
  EXPECT_THAT(with("bits", 3), HasSubstr("3 bits"));
  EXPECT_THAT(with("bits", 1 << 20), HasSubstr("bits"));
  EXPECT_THAT(with("bits", "4"), HasSubstr("bits"));
  EXPECT_THAT(with("group_size", 0x7fffffffffff), HasSubstr("group_size"));
  EXPECT_THAT(with("group_size", 16), HasSubstr("groups"));
  EXPECT_THAT(with("sparsity_config", json::object{{"format", "sparse-24-bitmask"}}), HasSubstr("sparse-24"));
  EXPECT_THAT(with("transform_config", json::object{{"config_groups", json::object{{"R1", 1}}}}),
              HasSubstr("rotated"));
  Broken awq("awq");
  awq.config["quantization_config"].as_object()["version"] = "gemv";
  EXPECT_THAT(awq.refusal(), HasSubstr("gemv"));
}

TEST(CheckpointQuantized, a_tensor_that_is_there_twice_is_refused) {
  Broken broken("gptq4");
  broken.image.tensors.push_back({.name = "x.weight", .dtype = "F32", .shape = {1}, .data = "1234"});
  EXPECT_THAT(broken.refusal(), HasSubstr("both quantised and not"));
}

}  // namespace
}  // namespace neutrino::weights
