// neutrino events: what happened, for people.

#include <chrono>
#include <map>
#include <thread>

#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kPollMilliseconds = 1000;

struct EventOptions {
  std::string endpoint, replica, reason;
  int64_t rows = 50;
};

Style style_of_reason(std::string_view reason) {
  if (reason.ends_with("Failed") || reason.ends_with("Error") || reason == "NoCapacity" ||
      reason == "CrashLoop")
    return Style::bad;
  return Style::bold;
}

std::vector<ListColumn> columns() {
  return {age_column("WHEN", "at_ms"),
          {"REASON",
           [](const json::value& item) {
             return Cell{text_at(item, "reason"), style_of_reason(text_at(item, "reason"))};
           }},
          {"ABOUT",
           [](const json::value& item) {
             for (const char* field : {"replica", "deployment", "endpoint"})
               if (const std::string name = text_at(item, field); !name.empty()) return Cell{name};
             return Cell{"-"};
           }},
          {"TIMES", [](const json::value& item) { return Cell{text_at(item, "count")}; }, Align::right},
          text_column("MESSAGE", "message")};
}

Query query_of(Cloud& cloud, const EventOptions& options) {
  Query query{{"order_by", "id"}, {"descending", "true"}};
  if (!options.endpoint.empty())
    query.emplace_back("endpoint", text_at(cloud.client.get(item_path("endpoints", options.endpoint)), "id"));
  if (!options.replica.empty()) query.emplace_back("replica", options.replica);
  if (!options.reason.empty()) query.emplace_back("reason", options.reason);
  return query;
}

void print_event(const Cloud& cloud, const json::value& event) {
  if (cloud.as_json) return print_json(event);
  const std::string reason = text_at(event, "reason");
  const std::string about = columns()[2].cell(event).text;
  fmt::print("{}  {}  {}  {}\n", styled(clock_text(integer_at(event, "at_ms")), Style::dim, cloud.screen),
             styled(harmless(reason), style_of_reason(reason), cloud.screen), harmless(about),
             harmless(text_at(event, "message")));
  std::fflush(stdout);
}

// A line for each event, and another when one happens again.
int watch(Cloud& cloud, const Query& query, int64_t rows) {
  for (std::map<int64_t, int64_t> told;;) {  // times, by id
    const json::array events = cloud.client.list("/events", query, rows).items;
    for (auto event = events.rbegin(); event != events.rend(); ++event) {
      const int64_t count = integer_at(*event, "count");
      if (std::exchange(told[integer_at(*event, "id")], count) != count) print_event(cloud, *event);
    }
    while (std::ssize(told) > 2 * rows) told.erase(told.begin());
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMilliseconds));
  }
}

int run_show(Cloud& cloud, const EventOptions& options) {
  const Query query = query_of(cloud, options);
  if (cloud.watch) return watch(cloud, query, options.rows);
  return show_list(cloud,
                   {.path = "/events",
                    .query = query,
                    .columns = columns(),
                    .empty = "nothing has happened yet",
                    .items_max = options.rows,
                    .arrange = [](json::array& events) { std::reverse(events.begin(), events.end()); }});
}

}  // namespace

int run_events(int argc, char** argv) {
  CloudCommand command("events",
                       "What happened: replicas that came and went, scaling and its reasons, failures.\n"
                       "Example: neutrino events --endpoint chat --watch");
  EventOptions options;
  CLI::App& app = command.alone(Prints::list, [&](Cloud& cloud) { return run_show(cloud, options); });
  app.add_option("--endpoint", options.endpoint, "of one endpoint");
  app.add_option("--replica", options.replica, "of one replica");
  app.add_option("--reason", options.reason, "of one kind, as NoCapacity");
  app.add_option("--rows", options.rows, "the last so many")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
