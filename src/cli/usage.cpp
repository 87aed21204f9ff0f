// neutrino usage summary|requests|hours|machines: what was used and what it cost.

#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

struct UsageOptions {
  std::string by = "endpoint", since = "30d", until, endpoint, key;
  bool as_csv = false;
  int64_t rows = 50;
};

ListColumn count_column(std::string title, std::string path) {
  return {.title = std::move(title),
          .cell = [path = std::move(path)](
                      const json::value& item) { return Cell{grouped_text(integer_at(item, path))}; },
          .align = Align::right};
}

ListColumn money_column(std::string title, std::string path) {
  return {.title = std::move(title),
          .cell = [path = std::move(path)](
                      const json::value& item) { return Cell{money_text(integer_at(item, path))}; },
          .align = Align::right};
}

ListColumn hour_column() {
  return {"HOUR (UTC)", [](const json::value& item) {
            return Cell{clock_text(integer_at(item, "hour_ms")).substr(0, 13) + " h"};
          }};
}

// As the control plane writes it for a spreadsheet.
int print_csv(Cloud& cloud, const std::string& path, Query query) {
  query.emplace_back("format", "csv");
  std::fputs(cloud.client.get_text(path, query).c_str(), stdout);
  return 0;
}

int show_usage(Cloud& cloud, const UsageOptions& options, ListView view) {
  if (options.as_csv) return print_csv(cloud, view.path, view.query);
  view.arrange = [&cloud](json::array& items) {
    if (cloud.as_json) return;
    put_names(cloud.client, items, "endpoint", "/endpoints");
    put_names(cloud.client, items, "key", "/keys");
  };
  return show_list(cloud, view);
}

Query period_of(const UsageOptions& options) {
  Query query{{"from_ms", std::to_string(parse_moment("--since", options.since, now_ms()))}};
  if (!options.until.empty())
    query.emplace_back("to_ms", std::to_string(parse_moment("--until", options.until, now_ms())));
  return query;
}

Query rows_query(Cloud& cloud, const UsageOptions& options) {
  Query query;
  if (!options.endpoint.empty())
    query.emplace_back("endpoint", text_at(cloud.client.get(item_path("endpoints", options.endpoint)), "id"));
  if (!options.key.empty())
    query.emplace_back("key", text_at(cloud.client.get(item_path("keys", options.key)), "id"));
  return query;
}

std::vector<ListColumn> token_columns() {
  return {count_column("INPUT", "input_tokens"), count_column("CACHED", "cached_tokens"),
          count_column("OUTPUT", "output_tokens"), count_column("REASONING", "reasoning_tokens"),
          money_column("COST", "cost")};
}

std::vector<ListColumn> with_tokens(std::vector<ListColumn> columns) {
  for (ListColumn& column : token_columns()) columns.push_back(std::move(column));
  return columns;
}

// The words of a summary's rows are ids; people know names.
ListColumn group_column(const std::string& by) {
  std::string title = by;
  for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return {title, [by](const json::value& item) {
            const std::string name = text_at(item, "name"), group = text_at(item, by);
            return Cell{!name.empty() ? name : !group.empty() ? group : "-"};
          }};
}

// The groups, largest spending as the API orders them, and their sum.
int run_summary(Cloud& cloud, const UsageOptions& options) {
  Query query = period_of(options);
  query.emplace_back("by", options.by);
  if (options.as_csv) return print_csv(cloud, "/usage/summary", std::move(query));
  const json::value answer = cloud.client.get("/usage/summary", query);
  if (cloud.as_json) return print_json(answer), 0;
  json::array items = at(answer, "items").as_array();
  if (items.empty()) return std::puts("nothing was used in that time"), 0;
  json::object total = at(answer, "total").as_object();
  total["name"] = "all";
  if (items.size() > 1) items.push_back(std::move(total));
  const auto columns = with_tokens(
      {group_column(options.by), count_column("REQUESTS", "requests"), count_column("FAILED", "failed")});
  std::fputs(list_text(items, columns, cloud.screen).c_str(), stdout);
  return 0;
}

int run_requests(Cloud& cloud, const UsageOptions& options) {
  Query query = rows_query(cloud, options);
  query.emplace_back("order_by", "started_ms");
  query.emplace_back("descending", "true");
  return show_usage(
      cloud, options,
      {.path = "/usage",
       .query = std::move(query),
       .columns = with_tokens({age_column("WHEN", "started_ms"), text_column("ENDPOINT", "endpoint"),
                               text_column("KEY", "key"), text_column("STATUS", "status"),
                               count_column("MS", "replica_ms")}),
       .empty = "no requests yet",
       .items_max = options.rows});
}

int run_hours(Cloud& cloud, const UsageOptions& options) {
  return show_usage(
      cloud, options,
      {.path = "/usage/hours",
       .query = rows_query(cloud, options),
       .columns = with_tokens({hour_column(), text_column("ENDPOINT", "endpoint"), text_column("KEY", "key"),
                               count_column("REQUESTS", "requests"), count_column("FAILED", "failed")}),
       .empty = "nothing was used yet"});
}

int run_machines(Cloud& cloud, const UsageOptions& options) {
  return show_usage(cloud, options,
                    {.path = "/usage/machines",
                     .query = rows_query(cloud, options),
                     .columns = {hour_column(),
                                 text_column("REPLICA", "replica"),
                                 text_column("SHAPE", "shape"),
                                 {"RUNNING",
                                  [](const json::value& item) {
                                    return Cell{duration_text(integer_at(item, "running_ms"))};
                                  },
                                  Align::right},
                                 money_column("COST", "cost")},
                     .empty = "no replica has run yet"});
}

}  // namespace

int run_usage(int argc, char** argv) {
  CloudCommand command(
      "usage", "What was used and what it cost.\nExample: neutrino usage summary --by key --since 7d");
  UsageOptions options;
  using Run = int (*)(Cloud&, const UsageOptions&);
  const auto verb = [&](const char* name, const char* help, Prints prints, Run run) -> CLI::App& {
    CLI::App& app =
        command.verb(name, help, prints, [&options, run](Cloud& cloud) { return run(cloud, options); });
    app.add_flag("--csv", options.as_csv, "print CSV");
    return app;
  };
  CLI::App& summary =
      verb("summary", "sums of a time\nExample: neutrino usage summary --by member --since 2026-11-01",
           Prints::data, run_summary);
  summary.add_option("--by", options.by, "key, member, endpoint, model or day")
      ->check(CLI::IsMember({"key", "member", "endpoint", "model", "day"}))
      ->capture_default_str();
  summary.add_option("--since", options.since, "a moment, or how long ago")->capture_default_str();
  summary.add_option("--until", options.until, "a moment, or how long ago (default: now)");
  CLI::App& requests =
      verb("requests", "the last requests, one by one\nExample: neutrino usage requests --endpoint chat",
           Prints::list, run_requests);
  requests.add_option("--rows", options.rows, "how many at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI::App& hours = verb("hours", "sums of each hour\nExample: neutrino usage hours --csv > hours.csv",
                         Prints::list, run_hours);
  for (CLI::App* app : {&requests, &hours}) {
    app->add_option("--endpoint", options.endpoint, "of one endpoint");
    app->add_option("--key", options.key, "of one key");
  }
  verb("machines", "how long replicas ran, used or not\nExample: neutrino usage machines", Prints::list,
       run_machines)
      .add_option("--endpoint", options.endpoint, "of one endpoint");
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
