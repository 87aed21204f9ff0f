#include "weights/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "weights/testing/gguf_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::tiny_llama;

// Runs `action`, which must throw Error, and returns it.
template <typename Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "nothing was thrown");
}

std::string model_bytes(uint64_t seed) { return serialise(tiny_llama({.seed = seed})); }

class StoreTest : public ::testing::Test {
 protected:
  ModelName name(std::string_view text) { return ModelName::parse(text); }
  Manifest import(std::string_view as, uint64_t seed = 1) {
    return store_.import(folder_.put("in/model.gguf", model_bytes(seed)), {.name = name(as), .source = ""});
  }
  fs::path manifest_path(std::string_view of) { return store_.manifest_path(name(of)); }
  size_t files_in(const char* part) {
    const fs::path path = folder_.path() / "models" / part;
    return static_cast<size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
  // Writes one other byte into a blob behind the store's back.
  void damage(const Manifest& manifest) {
    const fs::path blob = store_.blob_path(manifest.digest);
    std::string bytes = read_file(blob, 1 << 24);
    bytes[bytes.size() - 5] ^= 1;
    fs::remove(blob);
    write_file_atomic(blob, bytes);
  }

  TemporaryFolder folder_;
  Store store_{folder_.path() / "models"};
};

TEST_F(StoreTest, a_model_goes_in_is_listed_opened_verified_and_removed) {
  const Manifest manifest = import("tiny");
  EXPECT_EQ(manifest.facts.architecture, "llama");
  EXPECT_EQ(manifest.facts.quantization, "q8_0");
  EXPECT_EQ(manifest.facts.license.id, "apache-2.0");
  EXPECT_EQ(manifest.facts.parameters, 267 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64 + 3 * 32);
  EXPECT_EQ(manifest.facts.template_sha256.size(), 64u);
  EXPECT_EQ(manifest.digest, BlobDigest(sha256(model_bytes(1))));
  EXPECT_EQ(manifest.source, folder_.path() / "in/model.gguf");
  EXPECT_EQ(manifest.created.size(), 20u);

  ASSERT_EQ(store_.list().models.size(), 1u);
  EXPECT_EQ(store_.list().models[0].facts.parameters, manifest.facts.parameters);
  store_.verify(name("tiny"));
  const OpenModel open = store_.open(name("tiny"));
  EXPECT_EQ(open.name, "tiny");
  EXPECT_EQ(open.file->tensors().size(), 11u);
  EXPECT_EQ(open.manifest->digest, manifest.digest);
}

TEST_F(StoreTest, the_blob_cannot_be_written_by_accident) {
  struct stat status {};
  const fs::path blob = store_.blob_path(import("tiny").digest);
  ASSERT_EQ(::stat(blob.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0444u);
}

TEST_F(StoreTest, the_name_is_the_files_if_none_is_given) {
  const auto path = folder_.put("in/My-Model.Q8_0.gguf", model_bytes(1));
  EXPECT_EQ(store_.import(path, {}).name.text(), "My-Model.Q8_0");
  EXPECT_THROW(store_.import(folder_.put("in/my model.gguf", model_bytes(1)), {}), Error);
}

TEST_F(StoreTest, importing_the_same_again_changes_nothing) {
  const Manifest first = import("tiny");
  const std::string before = read_file(manifest_path("tiny"), 1 << 20);
  import("tiny");
  EXPECT_EQ(read_file(manifest_path("tiny"), 1 << 20), before);
  EXPECT_EQ(files_in("blobs"), 1u);
  EXPECT_EQ(files_in("tmp"), 0u);
}

TEST_F(StoreTest, another_model_under_a_taken_name_is_refused) {
  import("tiny", 1);
  const Error error = error_of([&] { import("tiny", 2); });
  EXPECT_EQ(error.code(), ErrorCode::already_exists);
  EXPECT_EQ(files_in("blobs"), 1u);
}

TEST_F(StoreTest, two_names_share_a_blob_until_both_are_gone) {
  const Manifest manifest = import("a");
  import("b");
  EXPECT_EQ(files_in("blobs"), 1u);
  store_.remove(name("a"));
  store_.verify(name("b"));
  store_.remove(name("b"));
  EXPECT_EQ(files_in("blobs"), 0u);
  EXPECT_EQ(files_in("manifests"), 0u);
  EXPECT_EQ(error_of([&] { store_.remove(name("b")); }).code(), ErrorCode::not_found);
}

TEST_F(StoreTest, a_model_in_use_is_not_removed) {
  import("tiny");
  {
    const OpenModel open = store_.open(name("tiny"));
    const Error error = error_of([&] { store_.remove(name("tiny")); });
    EXPECT_EQ(error.code(), ErrorCode::failed_precondition);
    EXPECT_THAT(error.message(), HasSubstr("in use"));
    store_.verify(name("tiny"));
  }
  store_.remove(name("tiny"));
  EXPECT_FALSE(store_.has(name("tiny")));
}

TEST_F(StoreTest, files_that_are_no_models_do_not_get_in) {
  EXPECT_THROW(store_.import(folder_.put("in/x.gguf", "GGUF"), {}), Error);
  EXPECT_THROW(store_.import(folder_.put("in/x.bin", "\x80\x04pickle"), {}), Error);
  EXPECT_EQ(error_of([&] { store_.import(folder_.path() / "none.gguf", {}); }).code(), ErrorCode::not_found);
  EXPECT_EQ(error_of([&] { store_.import(folder_.path(), {.name = name("x"), .source = ""}); }).code(),
            ErrorCode::invalid_argument);
  EXPECT_TRUE(store_.list().models.empty());
}

// As the first version of the store wrote them.
TEST_F(StoreTest, a_manifest_of_one_file_in_the_old_format_is_read) {
  const Manifest manifest = import("tiny");
  write_file_atomic(
      manifest_path("tiny"),
      fmt::format(
          R"({{"format_version":1,"name":"tiny","architecture":"llama","quantization":"q8_0","parameters":7,)"
          R"("license":"gemma","template_sha256":"","source":"x","created":"2026-01-31T12:00:00Z",)"
          R"("blob":{{"sha256":"{}","bytes":{},"verified":"{}"}}}})",
          manifest.digest.hex(), manifest.bytes, manifest.files[0].verified));
  const Manifest old = store_.show(name("tiny"));
  EXPECT_EQ(old.digest, manifest.digest);
  ASSERT_EQ(old.files.size(), 1u);
  EXPECT_EQ(old.files[0].name, "tiny.gguf");
  EXPECT_EQ(old.facts.license.id, "gemma");
  EXPECT_TRUE(store_.is_untouched(old));
  EXPECT_NO_THROW(store_.open(name("tiny")));
  store_.verify(name("tiny"));
  store_.remove(name("tiny"));
  EXPECT_EQ(files_in("blobs"), 0u);
}

// T-PATH-01: a name is never a path.
TEST(ModelName, is_no_path) {
  using namespace std::string_view_literals;
  const std::string_view bad[] = {"",           ".",         "..",          "../x",     "a/b",  "/etc/passwd",
                                  "a\\b",       ".hidden",   "a\0b"sv,      "a b",      "a\nb", "%2e%2e%2f",
                                  "a:b",        "~",         "caf\xc3\xa9", "\x1b[31m", "a*",   "$(id)",
                                  "blobs/../x", "..\xc0\xaf"};
  for (const auto text : bad) EXPECT_THROW(ModelName::parse(text), Error) << text;
  EXPECT_THROW(ModelName::parse(std::string(129, 'a')), Error);
  for (const std::string_view text : {"smollm2-135m-instruct", "A", "-x", "a..b", "Q4_1.v2"})
    EXPECT_EQ(ModelName::parse(text).text(), text);
}

TEST(FileName, is_a_path_below_the_model) {
  for (const std::string_view good :
       {"config.json", "1_Pooling/config.json", "a b (1).gguf", "model-00001-of-00002.safetensors"})
    EXPECT_TRUE(is_file_name(good)) << good;
  using namespace std::string_view_literals;
  for (const std::string_view bad :
       {""sv, "."sv, ".."sv, "/etc/passwd"sv, "a//b"sv, "a/../b"sv, "../x"sv, "a/"sv, ".git/config"sv,
        "a\\b"sv, "a\nb"sv, "a\0b"sv, "caf\xc3\xa9"sv, "a/.hidden"sv})
    EXPECT_FALSE(is_file_name(bad)) << bad;
  EXPECT_FALSE(is_file_name(std::string(513, 'a')));
}

TEST(Manifest, has_files_that_can_stand_beside_each_other) {
  const auto file = [](std::string file_name) {
    return ModelFile{std::move(file_name), BlobDigest(sha256("x")), 1};
  };
  const ModelName model = ModelName::parse("m");
  EXPECT_THROW(make_manifest(model, {}), Error);
  EXPECT_THROW(make_manifest(model, {file("a"), file("a")}), Error);
  EXPECT_THROW(make_manifest(model, {file("a"), file("a-b"), file("a/b")}), Error);
  EXPECT_THROW(make_manifest(model, {file("../a")}), Error);
  const Manifest two = make_manifest(model, {file("b"), file("a")});
  EXPECT_EQ(two.files[0].name, "a");
  EXPECT_EQ(two.bytes, 2);
  const std::string hex = BlobDigest(sha256("x")).hex();
  EXPECT_EQ(two.digest, BlobDigest(sha256(hex + "  a\n" + hex + "  b\n")));
  EXPECT_EQ(make_manifest(model, {file("a")}).digest.hex(), hex);
}

TEST(BlobDigest, is_64_lower_case_hexadecimal_digits) {
  const std::string good(64, 'a');
  EXPECT_EQ(BlobDigest::parse(good).hex(), good);
  for (const std::string& text :
       {std::string(), std::string(63, 'a'), std::string(65, 'a'), std::string(64, 'A'),
        "../" + std::string(61, 'a'), std::string(63, 'a') + "g", std::string(63, 'a') + "\n"})
    EXPECT_THROW(BlobDigest::parse(text), Error) << text;
}

// Each is one change to a good manifest.
TEST_F(StoreTest, a_broken_manifest_is_named_and_the_others_are_listed) {
  import("good", 1);
  import("bad", 2);
  const std::string text = read_file(manifest_path("bad"), 1 << 20);
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string changed = text;
    return changed.replace(changed.find(from), from.size(), to);
  };
  const std::pair<std::string, const char*> cases[] = {
      {"", "JSON"},
      {"{", "JSON"},
      {"[]", "JSON object"},
      {text.substr(0, text.size() / 2), "JSON"},
      {with("\"format_version\":2", "\"format_version\":3"), "format_version must be 1 to 2, got 3"},
      {with("\"name\":\"bad\"", "\"name\":\"other\""), "field \"name\""},
      {with("\"parameters\":", "\"parameters\":-"), "must be a count"},
      {with("\"license\":", "\"lizenz\":"), "\"license\" is missing"},
      {with("\"sha256\":\"", "\"sha256\":\"../"), "does not agree with"},
      {with("model.gguf\",\"sha256\":\"", "model.gguf\",\"sha256\":\"../"), "digest"},
      {with("\"name\":\"model.gguf\"", "\"name\":\"../model.gguf\""), "not a name"},
      {with("\"license\":", "\"name\":\"bad\",\"license\":"), "name"},
      {with("\"files\":[", "\"files\":7,\"fails\":["), "must be an array"},
  };
  for (const auto& [content, expected] : cases) {
    write_file_atomic(manifest_path("bad"), content);
    const StoreListing listing = store_.list();
    ASSERT_EQ(listing.models.size(), 1u) << content;
    EXPECT_EQ(listing.models[0].name.text(), "good");
    ASSERT_EQ(listing.broken.size(), 1u);
    EXPECT_EQ(listing.broken[0].file, manifest_path("bad"));
    const Error error = error_of([&] { store_.open(name("bad")); });
    EXPECT_EQ(error.code(), ErrorCode::data_loss) << error.message();
    EXPECT_THAT(error.message(), HasSubstr("manifest of model bad is broken"));
    EXPECT_THAT(error.message(), HasSubstr(expected));
  }
  EXPECT_EQ(error_of([&] { import("bad", 2); }).code(), ErrorCode::data_loss);
  store_.remove(name("bad"));
  EXPECT_TRUE(store_.list().broken.empty());
  import("third", 3);  // and the blob that only the broken manifest named is cleaned away
  EXPECT_EQ(files_in("blobs"), 2u);
}

TEST_F(StoreTest, a_damaged_blob_is_found_and_never_served_and_healed_by_an_import) {
  const Manifest manifest = import("tiny");
  damage(manifest);
  EXPECT_EQ(error_of([&] { store_.verify(name("tiny")); }).code(), ErrorCode::data_loss);
  const Error error = error_of([&] { store_.open(name("tiny")); });
  EXPECT_EQ(error.code(), ErrorCode::data_loss);
  EXPECT_THAT(error.message(), HasSubstr("damaged"));
  import("tiny");
  store_.verify(name("tiny"));
  EXPECT_NO_THROW(store_.open(name("tiny")));
}

TEST_F(StoreTest, a_blob_of_another_size_or_none_is_found) {
  const fs::path blob = store_.blob_path(import("tiny").digest);
  fs::resize_file(blob, fs::file_size(blob) - 1);
  EXPECT_THAT(error_of([&] { store_.open(name("tiny")); }).message(), HasSubstr("must have"));
  fs::remove(blob);
  EXPECT_THAT(error_of([&] { store_.open(name("tiny")); }).message(), HasSubstr("missing"));
  EXPECT_EQ(store_.list().models.size(), 1u);
  store_.remove(name("tiny"));
}

TEST_F(StoreTest, a_blob_that_was_touched_is_verified_once_more_and_then_trusted) {
  const Manifest before = import("tiny");
  fs::last_write_time(store_.blob_path(before.digest), fs::file_time_type::clock::now());
  EXPECT_NO_THROW(store_.open(name("tiny")));
  const Manifest after = store_.show(name("tiny"));
  EXPECT_NE(after.files[0].verified, before.files[0].verified);
  store_.open(name("tiny"));
  EXPECT_EQ(store_.show(name("tiny")).files[0].verified, after.files[0].verified);
}

TEST_F(StoreTest, links_inside_the_store_are_not_followed) {
  const Manifest manifest = import("tiny");
  const fs::path blob = store_.blob_path(manifest.digest), elsewhere = folder_.path() / "elsewhere";
  fs::rename(blob, elsewhere);
  fs::create_symlink(elsewhere, blob);
  EXPECT_THROW(store_.open(name("tiny")), Error);
  EXPECT_THROW(store_.verify(name("tiny")), Error);
  fs::remove(blob);
  fs::rename(elsewhere, blob);
  EXPECT_NO_THROW(store_.open(name("tiny")));

  fs::rename(manifest_path("tiny"), elsewhere);
  fs::create_symlink(elsewhere, manifest_path("tiny"));
  EXPECT_THROW(store_.show(name("tiny")), Error);
  EXPECT_EQ(store_.list().broken.size(), 1u);
  store_.remove(name("tiny"));
  EXPECT_TRUE(fs::exists(elsewhere));

  fs::remove_all(folder_.path() / "models/tmp");
  fs::create_directory_symlink(folder_.path(), folder_.path() / "models/tmp");
  EXPECT_EQ(error_of([&] { import("tiny"); }).code(), ErrorCode::failed_precondition);
}

TEST_F(StoreTest, a_path_that_the_user_names_may_be_a_link) {
  const auto path = folder_.put("in/model.gguf", model_bytes(1));
  fs::create_symlink(path, folder_.path() / "link.gguf");
  EXPECT_EQ(store_.import(folder_.path() / "link.gguf", {}).name.text(), "link");
  EXPECT_NO_THROW(resolve_model(store_, (folder_.path() / "link.gguf").string()));
}

TEST_F(StoreTest, what_the_file_says_about_itself_is_made_printable) {
  auto image = tiny_llama();
  image.set(testing::text_value("general.license", "\x1b[31mfree\xff\n"));
  const auto path = folder_.put("in/x.gguf", serialise(image));
  store_.import(path, {});
  EXPECT_EQ(store_.show(name("x")).facts.license.id, "?[31mfree??");
}

TEST_F(StoreTest, a_model_is_named_or_a_path) {
  import("tiny");
  const auto path = folder_.put("in/other.gguf", model_bytes(2));
  EXPECT_TRUE(resolve_model(store_, "tiny").manifest.has_value());
  EXPECT_EQ(resolve_model(store_, "tiny").digest, store_.show(name("tiny")).digest.hex());
  const OpenModel other = resolve_model(store_, path.string());
  EXPECT_EQ(other.digest.size(), 64u);
  EXPECT_EQ(other.name, "other");
  EXPECT_FALSE(other.manifest.has_value());
  EXPECT_EQ(other.facts.quantization, "q8_0");
  const Error error = error_of([&] { resolve_model(store_, "nonesuch"); });
  EXPECT_EQ(error.code(), ErrorCode::not_found);
  EXPECT_THAT(error.message(), HasSubstr("no model named nonesuch"));
  EXPECT_EQ(error_of([&] { resolve_model(store_, "nonesuch.gguf"); }).code(), ErrorCode::not_found);
}

TEST_F(StoreTest, progress_ends_at_the_size_of_the_file) {
  const std::string bytes = model_bytes(1);
  int64_t last = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, static_cast<int64_t>(bytes.size()));
    last = done;
  };
  store_.import(folder_.put("in/x.gguf", bytes), {.name = {}, .source = "", .progress = progress});
  EXPECT_EQ(last, static_cast<int64_t>(bytes.size()));
}

}  // namespace
}  // namespace neutrino::weights
