#include "net/http_syntax.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace neutrino::net {
namespace {

using Result = HeaderScan::Result;

TEST(HeaderScan, AcceptsOnlyTheStrictShape) {
  using namespace std::string_literals;
  const struct {
    std::string text;
    Result result;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Result::complete},
      {"GET / HTTP/1.1\r\n\r\n", Result::complete},
      {"GET / HTTP/1.1\r\nHost: x\r\n", Result::incomplete},
      {"", Result::incomplete},
      {"GET / HTTP/1.1\nHost: x\n\n", Result::malformed},
      {"GET / HTTP/1.1\r\nHost: x\n\r\n", Result::malformed},
      {"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Result::malformed},
      {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Result::malformed},
      {"GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", Result::malformed},
      {"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n"s, Result::malformed},
      {"GET / HTTP/1.1\r\n" + std::string(limits::kHeaderBytes, 'a'), Result::too_large},
  };
  for (const auto& [text, result] : cases) {
    EXPECT_EQ(HeaderScan().scan(text), result) << text.substr(0, 60);
    HeaderScan byte_by_byte;
    Result last = Result::incomplete;
    for (size_t size = 1; size <= text.size() && last == Result::incomplete; ++size)
      last = byte_by_byte.scan(std::string_view(text).substr(0, size));
    EXPECT_EQ(last, result) << text.substr(0, 60);
  }
}

TEST(HeaderScan, LeavesTheBodyAlone) {
  HeaderScan scan;
  const std::string_view text = "POST / HTTP/1.1\r\n\r\nbody\n\n";
  ASSERT_EQ(scan.scan(text), Result::complete);
  EXPECT_EQ(text.substr(scan.size()), "body\n\n");
}

TEST(BodyFraming, RefusesWhatParsersDisagreeAbout) {
  const struct {
    std::vector<Header> headers;
    bool faulty;
  } cases[] = {
      {{{"content-length", "5"}}, false},
      {{{"transfer-encoding", "chunked"}}, false},
      {{{"transfer-encoding", "Chunked"}}, false},
      {{}, false},
      {{{"content-length", "5"}, {"content-length", "5"}}, true},
      {{{"content-length", "5"}, {"content-length", "6"}}, true},
      {{{"content-length", "+5"}}, true},
      {{{"content-length", "-5"}}, true},
      {{{"content-length", "5, 5"}}, true},
      {{{"content-length", "0x5"}}, true},
      {{{"content-length", ""}}, true},
      {{{"content-length", "18446744073709551616"}}, true},
      {{{"content-length", "5"}, {"transfer-encoding", "chunked"}}, true},
      {{{"transfer-encoding", "chunked"}, {"content-length", "5"}}, true},
      {{{"transfer-encoding", "gzip, chunked"}}, true},
      {{{"transfer-encoding", "xchunked"}}, true},
      {{{"transfer-encoding", "chunked"}, {"transfer-encoding", "chunked"}}, true},
      {{{"host", "a"}, {"host", "b"}}, true},
  };
  for (const auto& [headers, faulty] : cases)
    EXPECT_EQ(!body_framing(headers).fault.empty(), faulty) << (headers.empty() ? "" : headers[0].value);
}

TEST(SplitTarget, TakesPathsAndAbsoluteForms) {
  Request request{.headers = {{"host", "good"}}};
  ASSERT_TRUE(split_target("/a/b?c=d?e", request));
  EXPECT_EQ(request.path, "/a/b");
  EXPECT_EQ(request.query, "c=d?e");
  ASSERT_TRUE(split_target("http://evil:80/x", request));
  EXPECT_EQ(request.header("host"), "evil:80");  // what the target says counts
  EXPECT_EQ(request.path, "/x");
  for (const std::string_view target : {"", "*", "a/b", "http://evil", "example.org:443"})
    EXPECT_FALSE(split_target(target, request)) << target;
}

TEST(RequestId, KeepsSaneOnesAndMakesOthers) {
  EXPECT_EQ(request_id("a-B_9.:"), "a-B_9.:");
  for (const std::string& bad :
       {std::string(), std::string("a b"), std::string("a\"b"), std::string(129, 'a'), std::string("\xFF")}) {
    EXPECT_TRUE(request_id(bad).starts_with("req-"));
    EXPECT_NE(request_id(bad), request_id(bad));
  }
}

}  // namespace
}  // namespace neutrino::net
