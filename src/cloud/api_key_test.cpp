#include "cloud/api_key.h"

#include <gtest/gtest.h>

#include <set>

namespace neutrino::cloud {
namespace {

TEST(ApiKeys, are_of_their_kind_and_never_the_same) {
  std::set<std::string> texts;
  for (const KeyKind kind : {KeyKind::api_key, KeyKind::session, KeyKind::one_time})
    for (int i = 0; i < 100; ++i) {
      const NewKey key = make_key(kind);
      EXPECT_EQ(key_kind(key.text), kind);
      EXPECT_TRUE(key.text.starts_with(key.prefix));
      EXPECT_LT(key.prefix.size(), 12u);
      EXPECT_EQ(key.digest, key_digest(key.text));
      texts.insert(key.text);
    }
  EXPECT_EQ(texts.size(), 300u);
  EXPECT_TRUE(texts.begin()->starts_with("nk-"));
}

TEST(ApiKeys, a_typo_is_told_wherever_it_is) {
  const std::string text = make_key(KeyKind::api_key).text;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string typo = text;
    typo[i] = typo[i] == 'x' ? 'y' : 'x';
    EXPECT_EQ(key_kind(typo), std::nullopt) << typo;
  }
  for (const std::string& other :
       {std::string(), text.substr(1), text + "0", text.substr(0, text.size() - 1), "ns-" + text.substr(3),
        std::string("sk-proj-abcdef"), std::string(41, '0')})
    EXPECT_EQ(key_kind(other), std::nullopt) << other;
}

TEST(ApiKeys, digests_are_compared_whole) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
}

}  // namespace
}  // namespace neutrino::cloud
