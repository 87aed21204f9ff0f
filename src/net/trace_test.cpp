// Traces: the W3C header, the OTLP bytes (decoded by a reader of our own), and the exporter against a collector on a socket.
#include "net/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "net/protobuf.h"
#include "net/server.h"
#include "net/trace_exporter.h"

namespace neutrino::net {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kTrace = "0af7651916cd43dd8448eb211c80319c";
constexpr std::string_view kParent = "b7ad6b7169203331";

std::string header(std::string_view version = "00", std::string_view flags = "01") {
  return fmt::format("{}-{}-{}-{}", version, kTrace, kParent, flags);
}

TEST(Traceparent, IsReadAsTheStandardSays) {
  const auto context = parse_trace_context(header(), "vendor=1,other=2");
  ASSERT_TRUE(context);
  EXPECT_EQ(to_hex(context->trace_id), kTrace);
  EXPECT_EQ(to_hex(context->parent), kParent);
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(context->state, "vendor=1,other=2");
  EXPECT_FALSE(parse_trace_context(header("00", "00"), "")->sampled);
  EXPECT_TRUE(parse_trace_context(header("00", "ff"), "")->sampled);
  EXPECT_TRUE(parse_trace_context(header("cc") + "-what-comes-later", ""));
  EXPECT_EQ(parse_trace_context(header(), "a\x01=b")->state, "");
  EXPECT_EQ(parse_trace_context(header(), std::string(600, 'a'))->state, "");
}

TEST(Traceparent, StartsANewTraceWhenItIsMalformed) {
  const std::string zeros32(32, '0'), zeros16(16, '0');
  const std::string bad[] = {
      "",
      "00",
      header("ff"),
      header("0x"),
      header("00", "0g"),
      header("00") + "-more",
      header("01") + "more",
      fmt::format("00-{}-{}-01", zeros32, kParent),
      fmt::format("00-{}-{}-01", kTrace, zeros16),
      fmt::format("00-{}-{}-01", "0AF7651916CD43DD8448EB211C80319C", kParent),
      fmt::format("00_{}-{}-01", kTrace, kParent),
      fmt::format("00-{}{}-01", kTrace, kParent),
  };
  for (const std::string& text : bad) EXPECT_FALSE(parse_trace_context(text, "")) << text;
  EXPECT_NE(new_trace_id(), new_trace_id());
  EXPECT_NE(new_span_id(), new_span_id());
}

// ---- a reader of protobuf, independent of the writer: field number -> values in order

struct Message {
  std::multimap<uint64_t, std::string> bytes;  // length-delimited
  std::multimap<uint64_t, uint64_t> numbers;   // varint and fixed64
  std::string text(uint64_t field) const { return bytes.count(field) == 1 ? bytes.find(field)->second : "?"; }
  uint64_t number(uint64_t field) const {
    return numbers.count(field) == 1 ? numbers.find(field)->second : ~0ULL;
  }
};

uint64_t take_varint(std::string_view& text) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<uint8_t>(text.at(0));
    text.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

Message decode(std::string_view text) {
  Message message;
  while (!text.empty()) {
    const uint64_t tag = take_varint(text);
    if ((tag & 7) == 0) {
      message.numbers.emplace(tag >> 3, take_varint(text));
    } else if ((tag & 7) == 1) {
      uint64_t value = 0;
      for (int i = 0; i < 8; ++i) value |= static_cast<uint64_t>(static_cast<uint8_t>(text.at(i))) << (8 * i);
      text.remove_prefix(8);
      message.numbers.emplace(tag >> 3, value);
    } else {
      EXPECT_EQ(tag & 7, 2U);
      const uint64_t size = take_varint(text);
      EXPECT_LE(size, text.size());
      message.bytes.emplace(tag >> 3, text.substr(0, size));
      text.remove_prefix(size);
    }
  }
  return message;
}

std::map<std::string, Message> decode_attributes(const Message& message, uint64_t field) {
  std::map<std::string, Message> result;
  const auto [begin, end] = message.bytes.equal_range(field);
  for (auto item = begin; item != end; ++item) {
    const Message pair = decode(item->second);
    result[pair.text(1)] = decode(pair.text(2));
  }
  return result;
}

std::vector<Message> decode_spans(std::string_view request) {
  std::vector<Message> spans;
  const Message scope = decode(decode(decode(request).text(1)).text(2));
  const auto [begin, end] = scope.bytes.equal_range(2);
  for (auto item = begin; item != end; ++item) spans.push_back(decode(item->second));
  return spans;
}

TEST(Protobuf, WritesTheBytesOfTheSpecification) {
  ProtobufWriter writer;
  writer.integer(1, 150);  // https://protobuf.dev/programming-guides/encoding has these two
  writer.bytes(2, "testing");
  EXPECT_EQ(writer.text(), std::string("\x08\x96\x01\x12\x07testing"));
  ProtobufWriter outer;
  outer.integer(16, static_cast<uint64_t>(int64_t{-1}));
  outer.fixed64(3, 0x0102030405060708);
  outer.fixed32(4, 0x01020304);
  EXPECT_EQ(outer.text(), std::string("\x80\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                                      "\x19\x08\x07\x06\x05\x04\x03\x02\x01\x25\x04\x03\x02\x01"));
}

Span some_span() {
  Span span{.trace_id = new_trace_id(),
            .id = new_span_id(),
            .name = "decode",
            .start_unix_ns = 5,
            .end_unix_ns = 7};
  span.attributes = {{"text", std::string("wörld")},
                     {"yes", true},
                     {"count", int64_t{-3}},
                     {"ratio", 0.25},
                     {"list", std::vector<std::string>{"a", "b"}}};
  return span;
}

TEST(OtlpTraces, HoldTheSpanAndItsAttributes) {
  Span child = some_span(), root = some_span();
  child.parent = root.id;
  root.kind = SpanKind::server;
  root.error = "engine_dead";
  root.state = "vendor=1";
  const std::string request =
      otlp_traces({{"service.name", std::string("neutrino")}}, std::vector{root, child});
  const Message resource_spans = decode(decode(request).text(1));
  EXPECT_EQ(decode_attributes(decode(resource_spans.text(1)), 1).at("service.name").text(1), "neutrino");
  EXPECT_EQ(decode(decode(resource_spans.text(2)).text(1)).text(1), "neutrino");
  const std::vector<Message> spans = decode_spans(request);
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(spans[0].text(1), std::string(root.trace_id.begin(), root.trace_id.end()));
  EXPECT_EQ(spans[0].text(2), std::string(root.id.begin(), root.id.end()));
  EXPECT_EQ(spans[0].text(3), "vendor=1");
  EXPECT_EQ(spans[0].bytes.count(4), 0U);  // a root
  EXPECT_EQ(spans[1].text(4), spans[0].text(2));
  EXPECT_EQ(spans[0].number(6), 2U);
  EXPECT_EQ(spans[1].number(6), 1U);
  EXPECT_EQ(spans[1].number(7), 5U);
  EXPECT_EQ(spans[1].number(8), 7U);
  EXPECT_EQ(decode(spans[0].text(15)).number(3), 2U);
  EXPECT_EQ(decode(spans[0].text(15)).text(2), "engine_dead");
  EXPECT_EQ(spans[1].bytes.count(15), 0U);
  const auto attributes = decode_attributes(spans[1], 9);
  EXPECT_EQ(attributes.at("text").text(1), "wörld");
  EXPECT_EQ(attributes.at("yes").number(2), 1U);
  EXPECT_EQ(static_cast<int64_t>(attributes.at("count").number(3)), -3);
  EXPECT_EQ(std::bit_cast<double>(attributes.at("ratio").number(4)), 0.25);
  EXPECT_EQ(decode(attributes.at("list").text(5)).bytes.count(1), 2U);
}

TEST(TraceOptions, AreReadAsOpenTelemetryWritesThem) {
  EXPECT_EQ(traces_url("http://collector:4318"), "http://collector:4318/v1/traces");
  EXPECT_EQ(traces_url("http://collector:4318/"), "http://collector:4318/v1/traces");
  EXPECT_EQ(traces_url("https://c.example/otlp/v1/traces"), "https://c.example/otlp/v1/traces");
  EXPECT_THROW(traces_url("collector:4318"), Error);
  EXPECT_THROW(traces_url("file:///etc/passwd"), Error);
  const std::vector<std::pair<std::string, std::string>> expected = {{"api-key", "a b"}, {"x", "1=2"}};
  EXPECT_EQ(parse_pairs("H", "api-key=a%20b, x = 1=2"), expected);
  EXPECT_TRUE(parse_pairs("H", "").empty());
  for (const std::string_view bad : {"a", "=b", "a=b,c", "a=%0d%0aB: c", "a=%zz"})
    EXPECT_THROW(parse_pairs("H", bad), Error) << bad;
}

// A collector that takes what it is sent, after refusing some.
class Collector {
 public:
  Collector() : server_(options()) {
    spdlog::set_level(spdlog::level::off);
    server_.set_routes({{{.method = Method::get, .path = "/nothing", .auth = AuthPolicy::open}, {}}});
    server_.listen();
  }
  int port() const { return server_.port(); }

 private:
  static ServerOptions options() { return {.port = 0}; }
  HttpServer server_;  // listens and never accepts: a collector that hangs
};

double dropped(Metrics& metrics, const std::string& reason) {
  return metrics
      .counter("neutrino_trace_spans_dropped_total", "Spans that nobody will see, by why",
               {{"reason", reason}})
      .Value();
}

TEST(TraceExporter, AHangingCollectorCostsSpansAndNothingElse) {
  const Collector collector;
  Metrics metrics;
  const auto start = std::chrono::steady_clock::now();
  {
    TraceExporter exporter({.url = traces_url(fmt::format("http://127.0.0.1:{}", collector.port())),
                            .queue_spans = 1000,
                            .interval_ms = 1},
                           metrics);
    for (int i = 0; i < 3000; ++i) exporter.offer({some_span()});
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
    EXPECT_GE(dropped(metrics, "queue_full"), 3000 - 1000 - limits::kTraceSpansPerExport);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(6));  // two seconds for what was left
  EXPECT_EQ(dropped(metrics, "queue_full") + dropped(metrics, "export_failed"), 3000);
}

TEST(TraceExporter, ARefusedConnectionIsCountedToo) {
  Metrics metrics;
  {
    TraceExporter({.url = "http://127.0.0.1:9/v1/traces", .interval_ms = 1}, metrics)
        .offer({some_span(), some_span()});
  }
  EXPECT_EQ(dropped(metrics, "export_failed"), 2);
}

}  // namespace
}  // namespace neutrino::net
