#include "weights/hub/reference.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace neutrino::weights {
namespace {

Reference parse(std::string_view text) { return parse_reference(text, net::Url::parse("https://hub.test")); }

TEST(Reference, a_repository_of_the_hub) {
  const std::tuple<const char*, const char*, const char*, const char*, const char*> cases[] = {
      {"org/name", "org/name", "", "", ""},
      {"gpt2", "gpt2", "", "", ""},
      {"org/name:Q4_K_M", "org/name", "", "Q4_K_M", ""},
      {"hf://org/name@v1.0:Q8_0", "org/name", "v1.0", "Q8_0", ""},
      {"hf:org/name@refs/pr/7", "org/name", "refs/pr/7", "", ""},
      {"https://hub.test/org/name", "org/name", "", "", ""},
      {"https://HUB.test:443/org/name/tree/v2", "org/name", "v2", "", ""},
      {"https://hub.test/org/name/blob/main/a/m.gguf", "org/name", "main", "", "a/m.gguf"},
      {"https://hub.test/org/name/resolve/main/m.gguf?download=true", "org/name", "main", "", "m.gguf"},
  };
  for (const auto& [text, repository, revision, quant, file] : cases) {
    const Reference reference = parse(text);
    EXPECT_EQ(reference.kind, Reference::Kind::hub) << text;
    EXPECT_EQ(reference.repository, repository) << text;
    EXPECT_EQ(reference.revision, revision) << text;
    EXPECT_EQ(reference.quant, quant) << text;
    EXPECT_EQ(reference.file, file) << text;
  }
}

TEST(Reference, a_url_a_registry_and_a_path) {
  EXPECT_EQ(parse("https://other.test/org/name").kind, Reference::Kind::url);
  EXPECT_EQ(parse("https://x.test/m.gguf?a=b").url.text(), "https://x.test/m.gguf?a=b");
  const Reference tag = parse("oci://registry.test/library/smol:135m");
  EXPECT_EQ(tag.url.origin(), "https://registry.test:443");
  EXPECT_EQ(tag.repository, "library/smol");
  EXPECT_EQ(tag.revision, "135m");
  EXPECT_EQ(parse("oci://registry.test:5000/a").revision, "latest");
  EXPECT_EQ(parse("oci://127.0.0.1:5000/a").url.origin(), "http://127.0.0.1:5000");
  const std::string digest = "sha256:" + std::string(64, 'a');
  EXPECT_EQ(parse("oci://registry.test/a@" + digest).revision, digest);
  for (const auto& [text, path] : {std::pair{"file:///a/b", "/a/b"},
                                   {"file:a/b", "a/b"},
                                   {"./a", "./a"},
                                   {"/a", "/a"},
                                   {"m.gguf", "m.gguf"}}) {
    EXPECT_EQ(parse(text).kind, Reference::Kind::path) << text;
    EXPECT_EQ(parse(text).path, path);
  }
}

TEST(Reference, anything_else_is_refused) {
  for (const char* text : {"",
                           "a/b/c",
                           "a b/c",
                           "org/",
                           "org/name:",
                           "org/name@",
                           "-x/y",
                           ".x/y",
                           "org/..",
                           "oci://host",
                           "oci://host/",
                           "oci://host/a@sha1:x",
                           "oci://host/a:b/c",
                           "oci://u:p@host/a",
                           "ftp://host/x",
                           "https://",
                           "hf://",
                           "file:",
                           "https://hub.test/org/name/resolve/main/../x.gguf",
                           "org/na\nme"}) {
    EXPECT_THROW(parse(text), Error) << text;
  }
}

}  // namespace
}  // namespace neutrino::weights
