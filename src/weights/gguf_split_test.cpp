// Split GGUF sets: opened whole by any of their parts, refused where they do not belong together.
#include "weights/gguf_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weights/testing/gguf_split_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing
using ::testing::HasSubstr;

struct Set {
  TemporaryFolder folder;
  std::vector<GgufImage> parts = split(tiny_llama(), 3);

  std::filesystem::path path(size_t i) const { return folder.path() / part_name(i, parts.size()); }
  void put() const {
    for (size_t i = 0; i < parts.size(); ++i) folder.put(part_name(i, parts.size()), serialise(parts[i]));
  }
  Error refusal(size_t i = 0) const {
    try {
      open_weight_file(path(i));
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::internal, "it was opened");
  }
  Error refusal_of_all() const {
    put();
    return refusal();
  }
};

TEST(GgufSplit, any_part_opens_the_set_and_it_equals_the_whole_file) {
  Set set;
  set.put();
  const auto whole = open_weight_file(set.folder.put("whole.gguf", serialise(tiny_llama())));
  for (size_t i = 0; i < 3; ++i) {
    const auto file = open_weight_file(set.path(i));
    EXPECT_EQ(file->path(), set.path(i));
    EXPECT_EQ(file->format(), "gguf v3");
    EXPECT_EQ(file->metadata().integer("llama.block_count"), 1);
    EXPECT_EQ(file->vocabulary().tokens, whole->vocabulary().tokens);
    EXPECT_EQ(file->chat_template(), whole->chat_template());
    ASSERT_EQ(file->tensors().size(), whole->tensors().size());
    for (const TensorEntry& expected : whole->tensors()) {
      const TensorEntry* tensor = file->find(expected.name);
      ASSERT_TRUE(tensor) << expected.name;
      EXPECT_EQ(tensor->shape, expected.shape);
      ASSERT_EQ(tensor->bytes, expected.bytes);
      EXPECT_EQ(std::memcmp(tensor->data, expected.data, static_cast<size_t>(tensor->bytes)), 0)
          << expected.name;
    }
    EXPECT_EQ(file->find("no such tensor"), nullptr);
  }
}

TEST(GgufSplit, the_first_part_may_hold_keys_only) {
  Set set;
  set.parts = split(tiny_llama(), 3, 1);
  set.put();
  EXPECT_TRUE(set.parts[0].tensors.empty());
  EXPECT_EQ(open_weight_file(set.path(0))->tensors().size(), tiny_llama().tensors.size());
}

TEST(GgufSplit, a_missing_part_is_named) {
  Set set;
  set.put();
  std::filesystem::remove(set.path(1));
  EXPECT_EQ(set.refusal().reason(), "shard_missing");
  EXPECT_THAT(set.refusal().message(), HasSubstr(part_name(1, 3)));
}

TEST(GgufSplit, a_part_under_another_name_is_refused) {
  Set set;
  set.put();
  for (const char* name : {"model.gguf", "m-00001-of-00002.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf"}) {
    std::filesystem::copy_file(set.path(0), set.folder.path() / name);
    try {
      open_weight_file(set.folder.path() / name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.reason(), "split_name") << name;
      EXPECT_THAT(error.message(), HasSubstr("name-00001-of-00003.gguf"));
    }
  }
}

TEST(GgufSplit, parts_that_do_not_belong_together_are_refused) {
  using Change = void (*)(Set&);
  const std::pair<const char*, Change> cases[] = {
      {"split_number", [](Set& set) { set.parts[1].set(u32_value("split.no", 2)); }},
      {"split_number", [](Set& set) { std::swap(set.parts[0], set.parts[1]); }},
      {"split_number", [](Set& set) { set.parts[2] = set.parts[1]; }},
      {"split_key", [](Set& set) { set.parts[1].erase("split.no"); }},
      {"split_key", [](Set& set) { set.parts[2].erase("split.count"); }},
      {"split_key", [](Set& set) { set.parts[0].erase("split.tensors.count"); }},
      {"split_count", [](Set& set) { set.parts[1].set(u32_value("split.count", 2)); }},
      {"split_count",
       [](Set& set) { set.parts[0].set(number_value("split.count", GgufType::i64, int64_t{-1})); }},
      {"split_count", [](Set& set) { set.parts[0].set(u32_value("split.count", ~0u)); }},
      {"split_tensors", [](Set& set) { set.parts[2].set(u32_value("split.tensors.count", 99)); }},
      {"split_tensors",
       [](Set& set) {
         set.parts[2].tensors.pop_back();
         layout(set.parts[2]);
       }},
      {"duplicate_tensor",
       [](Set& set) {
         set.parts[1].tensors[0] = set.parts[0].tensors[0];
         layout(set.parts[1]);
       }},
      {"key_type", [](Set& set) { set.parts[1].set(text_value("split.no", "1")); }},
      {"no_tensors",
       [](Set& set) {
         for (GgufImage& part : set.parts) {
           part.tensors.clear();
           part.set(u32_value("split.tensors.count", 0));
         }
       }},
      {"magic", [](Set& set) { set.parts[1].magic = "GGML"; }},
  };
  for (const auto& [reason, change] : cases) {
    Set set;
    change(set);
    EXPECT_EQ(set.refusal_of_all().reason(), reason) << set.refusal().message();
  }
}

}  // namespace
}  // namespace neutrino::weights
