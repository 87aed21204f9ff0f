#include "weights/license.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace neutrino::weights {
namespace {

using ::testing::HasSubstr;

TEST(License, says_what_a_user_must_know) {
  const std::tuple<License, LicenseTerms, const char*> cases[] = {
      {{.id = "apache-2.0"}, LicenseTerms::open, ""},
      {{.id = "MIT"}, LicenseTerms::open, ""},
      {{.id = "gemma"}, LicenseTerms::conditional, "sets conditions"},
      {{.id = "llama3.2"}, LicenseTerms::conditional, "llama3.2"},
      {{.id = "cc-by-nc-4.0"}, LicenseTerms::non_commercial, "forbids commercial use"},
      {{.id = "my-research-non-commercial"}, LicenseTerms::non_commercial, "forbids commercial use"},
      {{.id = "other", .name = "fair-noncommercial-research-license"},
       LicenseTerms::non_commercial,
       "forbids"},
      {{.id = "other", .name = "llama4", .link = "https://x.test/license"},
       LicenseTerms::conditional,
       "https://x.test/license"},
      {{.id = "other", .name = "mit"}, LicenseTerms::unknown, "not one that neutrino knows"},
      {{.id = "other", .name = "our-licence"}, LicenseTerms::unknown, "our-licence"},
      {{}, LicenseTerms::unknown, "does not say"},
  };
  for (const auto& [license, terms, expected] : cases) {
    EXPECT_EQ(license_terms(license), terms) << license.id;
    EXPECT_THAT(license_notice(license), HasSubstr(expected));
    EXPECT_EQ(license_notice(license).empty(), terms == LicenseTerms::open) << license.id;
  }
  EXPECT_THAT(license_notice({.id = "mit", .gated = true}), HasSubstr("accept their terms"));
}

TEST(License, is_read_from_a_model_card) {
  const License card = read_model_card(
      "---\r\nlanguage:\r\n- en\r\nlicense: Other  # see below\r\nlicense_name: \"our licence: v2\"\r\n"
      "license_link: LICENSE\r\n---\r\nlicense: mit\r\n");
  EXPECT_EQ(card.id, "other");
  EXPECT_EQ(card.name, "our licence: v2");
  EXPECT_EQ(card.link, "LICENSE");
  EXPECT_FALSE(card.gated);
  EXPECT_TRUE(read_model_card("---\nlicense: gemma\nextra_gated_heading: Access\n---\n").gated);
  for (const char* text : {"", "---", "# no front matter\nlicense: mit\n", "---\nlicense:\n  - mit\n---\n",
                           "---\nlicense: [mit]\n"})
    EXPECT_EQ(read_model_card(text).id, "unknown") << text;
  EXPECT_EQ(read_model_card("---\nlicense: m\x1b[31mit\n---\n").id, "m?[31mit");
}

TEST(License, the_file_speaks_before_the_hub) {
  const License both =
      combine({.id = "unknown", .link = "here"}, {.id = "mit", .name = "n", .link = "there", .gated = true});
  EXPECT_EQ(both.id, "mit");
  EXPECT_EQ(both.name, "n");
  EXPECT_EQ(both.link, "here");
  EXPECT_TRUE(both.gated);
  EXPECT_EQ(combine({.id = "gemma"}, {.id = "mit"}).id, "gemma");
}

}  // namespace
}  // namespace neutrino::weights
