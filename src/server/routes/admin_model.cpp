// An operator's calls: sleep and wake_up, under vLLM's names, and prefixes that are kept on disk by name.
#include "chat/model_admin.h"

#include <charconv>
#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "base/prefix_limits.h"
#include "net/schema.h"
#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/inference.h"
#include "server/nested_keys.h"
#include "server/reasoning_request.h"
#include "server/request_fields.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

namespace fs = std::filesystem;
using chat::SleepState;
using net::find;

constexpr std::string_view kSuffix = ".prefix";
constexpr auto kSleepPatience = std::chrono::seconds(300);  // for what still runs

chat::ModelAdmin& admin_of(Services& services) {
  if (chat::ModelAdmin* admin = services.chat_model.admin()) return *admin;
  throw make_error(ErrorCode::unimplemented, "model {} has no such calls", services.chat_model.info().name);
}

// level=1 in the query, or none. What level 2 of others throws away beyond that comes back from the file anyway.
void check_level(const Request& request) {
  if (request.query.empty() || request.query == "level=1" || request.query == "level=2") return;
  throw invalid_field(fmt::format("the query must be level=1 or level=2, got \"{:.60}\"", request.query),
                      "level");
}

// What vLLM has there wakes a part of the model (tags); here all of it wakes.
void check_no_query(const Request& request) {
  if (!request.query.empty())
    throw invalid_field(
        fmt::format("the query must be empty, got \"{:.60}\": all of the model wakes", request.query), "tags",
        "unsupported_parameter");
}

bool is_idle(const chat::ChatModelStatus& status) { return status.running == 0 && status.waiting == 0; }

// Letters, digits, '-', '_' and '.', none in front: so a name is never a path.
const std::string& check_name(const std::string& name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (name.empty() || name.size() > 64 || name[0] == '.' || !std::all_of(name.begin(), name.end(), good))
    throw invalid_field(
        "a prefix's name has 1-64 letters, digits, dots, dashes and underscores, no dot in front", "id");
  return name;
}

fs::path folder() { return neutrino_home() / "cache" / "prefixes"; }
fs::path path_of(const std::string& name) { return folder() / (check_name(name) + std::string(kSuffix)); }

// Bytes of all prefixes but the one that will be replaced.
int64_t bytes_used(const fs::path& except) {
  int64_t bytes = 0;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder(), none))
    if (entry.path() != except && entry.is_regular_file(none))
      bytes += static_cast<int64_t>(entry.file_size(none));
  return bytes;
}

struct PrefixBody {
  std::vector<int32_t> tokens;
  std::string salt;
};

// prompt or messages, as /tokenize takes them; neither where the fields have neither.
PrefixBody read_body(const Request& request, Services& services, std::span<const net::Field> fields,
                     std::vector<std::string>& ignored) {
  const json::object body = net::parse_body(request.body, fields, ignored);
  PrefixBody result;
  const auto* key = find(body, "key_name");
  const auto* salt = find(body, "cache_salt");
  result.salt = salt_of(key ? std::string(key->get_string()) : request.key_name,
                        salt ? std::string(salt->get_string()) : std::string());
  const auto* prompt = find(body, "prompt");
  const auto* messages = find(body, "messages");
  const chat::ChatModel& model = services.chat_model;
  if (prompt && messages) throw invalid_field("prompt and messages exclude each other", "messages");
  if (prompt) {
    note_conversation_fields(body, ignored);
    result.tokens = model.tokenize(std::string_view(prompt->get_string()), true, true);
  } else if (messages) {
    note_unread_keys(body, kChatKeys, ignored);
    const chat::Conversation conversation = read_conversation(body);
    check_template_arguments(conversation, model.info());
    result.tokens = model.tokenize(model.render(conversation), false, true);
  }
  return result;
}

void name_ignored(Response& response, const std::vector<std::string>& ignored) {
  if (!ignored.empty()) response.set_header("X-Ignored-Params", header_text(joined(ignored, ",")));
}

json::object report_json(const std::string& name, const chat::PrefixReport& report) {
  return {{"id", name}, {"tokens", report.tokens}, {"bytes", report.bytes}};
}

}  // namespace

asio::awaitable<void> sleep(Services& services, const Request& request, Response& response) {
  check_level(request);
  chat::ModelAdmin& admin = admin_of(services);
  if (admin.sleep_state() == SleepState::asleep) co_return response.send(200, R"({"is_sleeping":true})");
  admin.fall_asleep();
  const auto end = std::chrono::steady_clock::now() + kSleepPatience;
  while (!is_idle(services.chat_model.status())) {
    if (response.interruption() != net::Interruption::none || std::chrono::steady_clock::now() > end) {
      admin.wake_up();
      throw Error(ErrorCode::failed_precondition, "requests were still running; the model stays awake");
    }
    co_await response.signal().wait(std::chrono::milliseconds(20));
  }
  chat::SleepReport report;
  co_await services.workers.run([&] { report = admin.sleep(); });
  response.send(200, to_text(json::object{{"is_sleeping", true},
                                          {"released_kv_bytes", report.kv_bytes},
                                          {"released_weight_bytes", report.weight_bytes},
                                          {"kept", report.kept}}));
}

asio::awaitable<void> wake_up(Services& services, const Request& request, Response& response) {
  check_no_query(request);
  chat::ModelAdmin& admin = admin_of(services);
  co_await services.workers.run([&] { admin.wake_up(); });
  response.send(200, R"({"is_sleeping":false})");
}

asio::awaitable<void> is_sleeping(Services& services, const Request&, Response& response) {
  const chat::ModelAdmin* admin = services.chat_model.admin();
  const bool asleep = admin && admin->sleep_state() == SleepState::asleep;
  response.send(200, to_text(json::object{{"is_sleeping", asleep}}));
  co_return;
}

// g++ 12 with AddressSanitizer takes Asio's allocation of this coroutine's frame for a mismatch.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
// The prefix is computed first, as a request with one token to generate would.
asio::awaitable<void> save_prefix(Services& services, const Request& request, Response& response) {
  chat::ModelAdmin& admin = admin_of(services);
  const fs::path path = path_of(request.parameter);
  PrefixBody body;
  std::vector<std::string> ignored;
  co_await services.workers.run([&] { body = read_body(request, services, kPrefixSaveFields, ignored); });
  if (body.tokens.empty())
    throw invalid_field("prompt or messages is required", "prompt", "missing_required_parameter");
  const net::Wakeups::Subscription subscription(services.wakeups, response.signal());
  chat::GenerationRequest generation;
  generation.id = fmt::format("prefix-{}", request.id);
  generation.prompt = body.tokens;
  generation.sampling.max_tokens = 1;
  generation.cache_salt = body.salt;
  const auto running = services.chat_model.generate(std::move(generation));
  for (bool ended = false; !ended;) {
    if (response.interruption() != net::Interruption::none) co_return;
    const auto chunk = running->poll();
    if (chunk && chunk->error) throw *chunk->error;
    ended = chunk && chunk->finish_reason;
    if (!chunk) co_await response.signal().wait(std::chrono::seconds(1));
  }
  chat::PrefixReport report;
  co_await services.workers.run([&] {
    fs::create_directories(folder());
    report = admin.save_prefix(path, body.tokens, body.salt, limits::kPrefixFilesBytes - bytes_used(path));
  });
  name_ignored(response, ignored);
  response.send(200, to_text(report_json(request.parameter, report)));
}
#pragma GCC diagnostic pop

asio::awaitable<void> restore_prefix(Services& services, const Request& request, Response& response) {
  chat::ModelAdmin& admin = admin_of(services);
  const fs::path path = path_of(request.parameter);
  chat::PrefixReport report;
  std::vector<std::string> ignored;
  co_await services.workers.run([&] {
    const PrefixBody body = read_body(request, services, kPrefixRestoreFields, ignored);
    report = admin.restore_prefix(path, body.salt, limits::kPrefixFilesBytes);
  });
  name_ignored(response, ignored);
  response.send(200, to_text(report_json(request.parameter, report)));
}

asio::awaitable<void> list_prefixes(Services&, const Request&, Response& response) {
  json::array list;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder(), none)) {
    const fs::path& path = entry.path();
    if (path.extension() == kSuffix)
      list.push_back(json::object{{"id", path.stem().string()}, {"bytes", entry.file_size(none)}});
  }
  response.send(200, to_text(json::object{{"object", "list"}, {"data", std::move(list)}}));
  co_return;
}

asio::awaitable<void> delete_prefix(Services&, const Request& request, Response& response) {
  std::error_code failure;
  if (!fs::remove(path_of(request.parameter), failure))
    throw make_error(ErrorCode::not_found, "there is no prefix \"{}\"", request.parameter);
  response.send(200, to_text(json::object{{"id", request.parameter}, {"deleted", true}}));
  co_return;
}

}  // namespace neutrino::server::routes
