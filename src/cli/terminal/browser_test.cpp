// The way back of a sign-in: only the answer to this process's own question counts.
#include "cli/terminal/browser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "net/fetch.h"

namespace neutrino::cli {
namespace {

TEST(Browser, queries_are_decoded) {
  EXPECT_EQ(query_value("code=a%20b+c&state=x", "code"), "a b c");
  EXPECT_EQ(query_value("xcode=1&code=%zz%4", "code"), "%zz%4");
  EXPECT_EQ(query_value("code&state", "code"), "");
  EXPECT_EQ(query_value("", "code"), "");
}

TEST(Browser, only_an_answer_with_the_right_state_counts) {
  CodeListener listener;
  const auto get = [&](const std::string& path) {
    return net::Fetcher()
        .get({.url = net::Url::parse(fmt::format("http://127.0.0.1:{}{}", listener.port(), path))})
        .status;
  };
  std::vector<int> statuses;
  std::thread browser([&] {
    for (const char* path : {"/?code=evil&state=guess", "/?code=evil", "/favicon.ico", "/"})
      statuses.push_back(get(path));
    statuses.push_back(get("/?code=good&state=" + listener.state()));
  });
  EXPECT_EQ(listener.wait(std::chrono::seconds(30)), "good");
  browser.join();
  EXPECT_THAT(statuses, ::testing::ElementsAre(404, 404, 404, 404, 200));
}

TEST(Browser, waits_no_longer_than_it_should) {
  EXPECT_THROW(CodeListener().wait(std::chrono::seconds(0)), Error);
}

}  // namespace
}  // namespace neutrino::cli
