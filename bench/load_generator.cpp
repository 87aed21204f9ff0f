// Clients for a server that speaks OpenAI's /v1/completions, streaming: neutrino's and llama-server's alike.
//
//   load_generator --port 8000 --clients 8 --requests 32 --prompt 128 --output 64 [--shared 256]
//   load_generator --port 8000 --stall 2048
//   load_generator --port 8000 --rate 40 --requests 2000 --prompt 32 --output 16
//
// The first form is a closed loop: each client sends its next request when its last one has ended. `--shared` tokens are the
// same at the head of all prompts, before `--prompt` tokens of their own. The second form watches one running stream while a
// prompt of that many tokens is sent beside it: the longest gap between two tokens of the stream until the long prompt's
// first token. The third is an open loop: requests come at random times (Poisson) at that rate, whatever became of the ones
// before; some are refused, and the figures say how the admitted and the refused ones fared.
//
// Prompts are token ids, so that both servers read the same number of tokens; ignore_eos keeps a sequence from ending early,
// and the counts that the server reports are compared with what was asked for: one wrong count, and the run fails. One thread,
// and it says how much CPU it took, since it runs on the machine that it measures. The result is one JSON object.

#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;
template <typename T>
using Task = asio::awaitable<T>;

struct Options {
  int port = 0, clients = 8, requests = 32, prompt = 128, shared = 0, output = 64, warm = 1, stall = 0;
  double rate = 0;
  uint64_t seed = 1;
  std::string model = "m", key = "k";
};

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

// What came of one request. `tokens`: when each event with text arrived.
struct Answer {
  Clock::time_point sent, ended;
  std::vector<Clock::time_point> tokens;
  int64_t prompt_tokens = -1, completion_tokens = -1;  // as the server counted them
  unsigned status = 0;
  std::string retry_after, refusal;  // of an answer that is no 200

  double first_ms() const { return milliseconds(tokens.front() - sent); }
};

// Ids from the middle of any vocabulary of the test models, above bytes and special tokens.
std::vector<int> random_tokens(std::mt19937_64& random, int count) {
  std::vector<int> tokens(count);
  for (int& token : tokens) token = 1000 + static_cast<int>(random() % 29'000);
  return tokens;
}

std::string request_body(const Options& options, const std::vector<int>& prompt, int output) {
  return json::serialize(json::object{{"model", options.model},
                                      {"prompt", json::array(prompt.begin(), prompt.end())},
                                      {"max_tokens", output},
                                      {"temperature", 0},
                                      {"seed", 1},
                                      {"ignore_eos", true},
                                      {"stream", true},
                                      {"stream_options", json::object{{"include_usage", true}}}});
}

// Reads the events of a stream as they come. Only what the figures need is looked at: text, and the usage at the end.
class EventReader {
 public:
  explicit EventReader(Answer& answer) : answer_(answer) {}

  void add(std::string_view bytes) {
    const Clock::time_point now = Clock::now();
    pending_ += bytes;
    size_t begin = 0;
    for (size_t end; (end = pending_.find('\n', begin)) != std::string::npos; begin = end + 1)
      line(std::string_view(pending_).substr(begin, end - begin), now);
    pending_.erase(0, begin);
  }

 private:
  void line(std::string_view text, Clock::time_point now) {
    if (!text.starts_with("data:")) return;
    text.remove_prefix(5);
    if (text.find("[DONE]") != text.npos && text.size() < 16) return;
    const json::value event = json::parse(text);
    const json::object& fields = event.as_object();
    if (const auto* error = fields.if_contains("error")) throw std::runtime_error(json::serialize(*error));
    if (const auto* choices = fields.if_contains("choices"); choices && !choices->as_array().empty())
      if (const auto* piece = choices->as_array()[0].as_object().if_contains("text");
          piece && piece->is_string() && !piece->as_string().empty())
        answer_.tokens.push_back(now);
    if (const auto* usage = fields.if_contains("usage"); usage && usage->is_object()) {
      answer_.prompt_tokens = usage->at("prompt_tokens").to_number<int64_t>();
      answer_.completion_tokens = usage->at("completion_tokens").to_number<int64_t>();
    }
  }

  Answer& answer_;
  std::string pending_;
};

// One request on a connection of its own. `answer` fills while it runs; it ends early when `enough` says so. Whatever the status.
Task<void> ask(
    const Options& options, std::string body, Answer& answer,
    const std::function<bool()>& enough = [] { return false; }) {
  tcp::socket socket(co_await asio::this_coro::executor);
  answer.sent = Clock::now();
  co_await socket.async_connect({asio::ip::address_v4::loopback(), static_cast<uint16_t>(options.port)},
                                asio::use_awaitable);
  socket.set_option(tcp::no_delay(true));
  http::request<http::string_body> request(http::verb::post, "/v1/completions", 11);
  request.set(http::field::host, fmt::format("127.0.0.1:{}", options.port));
  request.set(http::field::content_type, "application/json");
  request.set(http::field::authorization, "Bearer " + options.key);
  request.body() = std::move(body);
  request.prepare_payload();
  co_await http::async_write(socket, request, asio::use_awaitable);

  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  co_await http::async_read_header(socket, buffer, parser, asio::use_awaitable);
  EventReader reader(answer);
  answer.status = parser.get().result_int();
  answer.retry_after = parser.get()[http::field::retry_after];
  std::vector<char> bytes(16 << 10);
  while (!parser.is_done() && !enough()) {
    parser.get().body().data = bytes.data();
    parser.get().body().size = bytes.size();
    boost::system::error_code failure;
    co_await http::async_read_some(socket, buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, failure));
    if (failure && failure != http::error::need_buffer) throw boost::system::system_error(failure);
    const std::string_view read(bytes.data(), bytes.size() - parser.get().body().size);
    answer.status == 200 ? reader.add(read) : void(answer.refusal += read);
  }
  answer.ended = Clock::now();
}

void check_status(const Answer& answer) {
  if (answer.status != 200)
    throw std::runtime_error(fmt::format("status {}: {:.300}", answer.status, answer.refusal));
}

void check_counts(const Options& options, const Answer& answer) {
  const int64_t prompt = options.shared + options.prompt;
  if (answer.prompt_tokens != prompt || answer.completion_tokens != options.output)
    throw std::runtime_error(fmt::format("{} + {} tokens were asked for, the server counts {} + {}", prompt,
                                         options.output, answer.prompt_tokens, answer.completion_tokens));
  if (answer.tokens.empty()) throw std::runtime_error("no event had text");
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

double cpu_seconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Gaps between the tokens of one stream that end after `from`, in milliseconds.
std::vector<double> gaps_ms(const Answer& answer, Clock::time_point from, Clock::time_point until) {
  std::vector<double> gaps;
  for (size_t i = 1; i < answer.tokens.size(); ++i)
    if (answer.tokens[i] > from && answer.tokens[i - 1] < until)
      gaps.push_back(milliseconds(answer.tokens[i] - answer.tokens[i - 1]));
  return gaps;
}

class Load {
 public:
  Load(const Options& options, asio::io_context& context)
      : options_(options), context_(context), random_(options.seed) {
    const std::vector<int> head = random_tokens(random_, options.shared);
    for (int i = 0; i < options.warm + options.requests; ++i) {
      std::vector<int> prompt = head;
      const std::vector<int> own = random_tokens(random_, options.prompt);
      prompt.insert(prompt.end(), own.begin(), own.end());
      bodies_.push_back(request_body(options, prompt, options.output));
    }
    answers_.resize(bodies_.size());
  }

  json::object run() {
    next_ = 0, end_ = options_.warm;
    finish(1);
    end_ = static_cast<size_t>(options_.warm + options_.requests);
    const double cpu = cpu_seconds();
    const Clock::time_point start = Clock::now();
    finish(options_.clients);
    const double seconds = milliseconds(Clock::now() - start) / 1e3;
    return result(seconds, cpu_seconds() - cpu);
  }

 private:
  // Runs `clients` clients until no request up to end_ is left; throws what any of them threw.
  void finish(int clients) {
    std::exception_ptr failure;
    for (int i = 0; i < clients; ++i)
      asio::co_spawn(context_, client(), [&failure](std::exception_ptr error) {
        if (error) failure = error;
      });
    context_.restart();
    context_.run();
    if (failure) std::rethrow_exception(failure);
  }

  Task<void> client() {
    while (next_ < end_) {
      const size_t mine = next_++;
      co_await ask(options_, std::move(bodies_[mine]), answers_[mine]);
      check_status(answers_[mine]);
      check_counts(options_, answers_[mine]);
    }
  }

  json::object result(double seconds, double cpu) const {
    std::vector<double> first, gaps;
    for (size_t i = options_.warm; i < answers_.size(); ++i) {
      first.push_back(answers_[i].first_ms());
      const std::vector<double> own = gaps_ms(answers_[i], answers_[i].sent, answers_[i].ended);
      gaps.insert(gaps.end(), own.begin(), own.end());
    }
    if (gaps.empty()) gaps.push_back(0);
    return {{"requests", options_.requests},
            {"output_tokens", options_.requests * options_.output},
            {"seconds", seconds},
            {"tokens_per_second", options_.requests * options_.output / seconds},
            {"first_token_ms_p50", percentile(first, 0.5)},
            {"first_token_ms_p95", percentile(first, 0.95)},
            {"gap_ms_p50", percentile(gaps, 0.5)},
            {"gap_ms_p99", percentile(gaps, 0.99)},
            {"gap_ms_max", percentile(gaps, 1)},
            {"client_cpu_share", cpu / seconds / std::thread::hardware_concurrency()}};
  }

  const Options& options_;
  asio::io_context& context_;
  std::mt19937_64 random_;
  std::vector<std::string> bodies_;
  std::vector<Answer> answers_;
  size_t next_ = 0, end_ = 0;
};

// A stream, and beside it a long prompt once the stream has shown its usual pace.
class Stall {
 public:
  static constexpr size_t kPace = 30,
                          kAfter = 5;   // tokens of the stream before the long prompt, and after its answer
  static constexpr int kStream = 4000;  // tokens asked for: more than it takes

  Stall(const Options& options, asio::io_context& context)
      : options_(options), context_(context), random_(options.seed) {}

  json::object run() {
    std::exception_ptr failure;
    const double cpu = cpu_seconds();
    const Clock::time_point start = Clock::now();
    asio::co_spawn(context_, stream(), [&](std::exception_ptr error) {
      if (error) failure = error, context_.stop();
    });
    asio::co_spawn(context_, intrude(), [&](std::exception_ptr error) {
      if (error) failure = error, context_.stop();
    });
    context_.run();
    if (failure) std::rethrow_exception(failure);
    const double seconds = milliseconds(Clock::now() - start) / 1e3;
    if (stream_.tokens.size() < seen_ + kAfter)
      throw std::runtime_error("the stream ended before the long prompt's answer");
    if (long_.prompt_tokens != options_.stall)
      throw std::runtime_error(fmt::format("a prompt of {} tokens was sent, the server counts {}",
                                           options_.stall, long_.prompt_tokens));
    const std::vector<double> before = gaps_ms(stream_, stream_.sent, long_.sent);
    const std::vector<double> during = gaps_ms(stream_, long_.sent, long_.tokens.front());
    return {{"gap_ms_max", percentile(during, 1)},
            {"gap_ms_p50", percentile(during, 0.5)},
            {"gap_ms_p50_alone", percentile(before, 0.5)},
            {"first_token_ms", long_.first_ms()},
            {"client_cpu_share", (cpu_seconds() - cpu) / seconds / std::thread::hardware_concurrency()}};
  }

 private:
  Task<void> stream() {
    const std::function<bool()> enough = [this] { return done_ && stream_.tokens.size() >= seen_ + kAfter; };
    co_await ask(options_, request_body(options_, random_tokens(random_, 16), kStream), stream_, enough);
    check_status(stream_);
  }

  Task<void> intrude() {
    asio::steady_timer timer(context_);
    while (stream_.tokens.size() < kPace) {
      timer.expires_after(std::chrono::milliseconds(1));
      co_await timer.async_wait(asio::use_awaitable);
    }
    co_await ask(options_, request_body(options_, random_tokens(random_, options_.stall), 2), long_);
    check_status(long_);
    if (long_.tokens.empty()) throw std::runtime_error("the long prompt got no token");
    seen_ = stream_.tokens.size();
    done_ = true;
  }

  const Options& options_;
  asio::io_context& context_;
  std::mt19937_64 random_;
  Answer stream_, long_;
  size_t seen_ = 0;
  bool done_ = false;
};

// Requests at the times of a Poisson process. Those that are refused are part of the result; anything but 200 and 429 is an error.
class OpenLoop {
 public:
  OpenLoop(const Options& options, asio::io_context& context)
      : options_(options), context_(context), random_(options.seed), answers_(options.requests) {
    for (int i = 0; i < options.requests; ++i)
      bodies_.push_back(request_body(options, random_tokens(random_, options.prompt), options.output));
  }

  json::object run() {
    const double cpu = cpu_seconds();
    start_ = Clock::now();
    asio::co_spawn(context_, send(), asio::detached);
    context_.run();
    if (failure_) std::rethrow_exception(failure_);
    const double seconds = milliseconds(Clock::now() - start_) / 1e3;
    return result((cpu_seconds() - cpu) / seconds / std::thread::hardware_concurrency());
  }

 private:
  Task<void> send() {
    std::exponential_distribution<double> gap(options_.rate);
    asio::steady_timer timer(context_);
    Clock::time_point next = start_;
    for (size_t i = 0; i < answers_.size(); ++i) {
      next += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap(random_)));
      timer.expires_at(next);
      co_await timer.async_wait(asio::use_awaitable);
      late_ms_ = std::max(late_ms_, milliseconds(Clock::now() - next));
      asio::co_spawn(context_, one(i), [this](std::exception_ptr error) {
        if (error) failure_ = error, context_.stop();
      });
    }
    sent_all_ = Clock::now();
  }

  Task<void> one(size_t i) { co_await ask(options_, std::move(bodies_[i]), answers_[i]); }

  json::object result(double cpu_share) const {
    std::vector<double> first, refused;
    int64_t in_time = 0, without_retry_after = 0;
    for (const Answer& answer : answers_) {
      if (answer.status == 429) {
        refused.push_back(milliseconds(answer.ended - answer.sent));
        without_retry_after += answer.retry_after.empty();
        continue;
      }
      check_status(answer);
      check_counts(options_, answer);
      first.push_back(answer.first_ms());
      in_time += answer.ended <= sent_all_;
    }
    const double seconds = milliseconds(sent_all_ - start_) / 1e3;
    json::object result{{"rate", options_.rate},
                        {"seconds", seconds},
                        {"admitted", first.size()},
                        {"refused", refused.size()},
                        {"refused_without_retry_after", without_retry_after},
                        {"answered_per_second", static_cast<double>(in_time) / seconds},
                        {"sent_late_ms_max", late_ms_},
                        {"client_cpu_share", cpu_share}};
    const auto add = [&](const char* name, const std::vector<double>& values) {
      if (values.empty()) return;
      result[fmt::format("{}_ms_p50", name)] = percentile(values, 0.5);
      result[fmt::format("{}_ms_p95", name)] = percentile(values, 0.95);
      result[fmt::format("{}_ms_max", name)] = percentile(values, 1);
    };
    add("first_token", first);
    add("refusal", refused);
    return result;
  }

  const Options& options_;
  asio::io_context& context_;
  std::mt19937_64 random_;
  std::vector<std::string> bodies_;
  std::vector<Answer> answers_;
  Clock::time_point start_, sent_all_;
  double late_ms_ = 0;  // how late the generator itself was, at worst
  std::exception_ptr failure_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Clients of a completions server, and what they saw");
  app.add_option("--port", options.port, "of a server on loopback")->required()->check(CLI::Range(1, 65535));
  const auto count = [&](const char* name, int& value, int least, const char* help) {
    app.add_option(name, value, help)->check(CLI::Range(least, 1 << 20))->capture_default_str();
  };
  count("--clients", options.clients, 1, "that ask at the same time");
  count("--requests", options.requests, 1, "of all clients together");
  count("--prompt", options.prompt, 1, "tokens of a prompt that no other request has");
  count("--shared", options.shared, 0, "tokens before them that all requests have");
  count("--output", options.output, 1, "tokens to generate");
  count("--warm", options.warm, 0, "requests before the clock starts");
  count("--stall", options.stall, 0, "tokens of a prompt that is sent beside one running stream");
  app.add_option("--rate", options.rate, "requests a second, at random times: an open loop of --requests")
      ->check(CLI::Range(0.001, 1e6));
  app.add_option("--seed", options.seed, "of the prompts")->capture_default_str();
  app.add_option("--model", options.model, "name of the model in the requests")->capture_default_str();
  app.add_option("--api-key", options.key)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    asio::io_context context(1);
    const json::object result = options.rate > 0    ? OpenLoop(options, context).run()
                                : options.stall > 0 ? Stall(options, context).run()
                                                    : Load(options, context).run();
    fmt::print("{}\n", json::serialize(result));
  } catch (const std::exception& error) {
    fmt::print(stderr, "load_generator: {}\n", error.what());
    return 1;
  }
}
