#include "cli/cloud_command.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <thread>

#include "base/clock.h"
#include "cli/options.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

constexpr const char* kWatchMilliseconds = "10000";  // after which a list is shown again, for its times

// Returns after a change of these kinds that came after `seq`, or after a while for the times in a list to move on.
void wait_for_change(CloudClient& client, const std::vector<std::string>& kinds, int64_t seq) {
  if (kinds.empty()) return std::this_thread::sleep_for(std::chrono::seconds(1));
  std::string list;
  for (const std::string& kind : kinds) list += (list.empty() ? "" : ",") + kind;
  try {
    client.get("/changes", {{"since", std::to_string(seq)}, {"wait_ms", kWatchMilliseconds}, {"kind", list}});
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_range) throw;  // so much has changed that nobody knows all of it
  }
}

void print_list(const Cloud& cloud, const ListView& view, const json::array& items) {
  if (cloud.as_json) return print_json({{"items", items}});
  const std::string text = items.empty() ? view.empty + "\n" : list_text(items, view.columns, cloud.screen);
  if (cloud.watch && cloud.screen.is_terminal) std::fputs("\033[H\033[J", stdout);
  std::fputs(text.c_str(), stdout);
  if (cloud.watch && !cloud.screen.is_terminal) std::fputs("\n", stdout);
  std::fflush(stdout);
}

}  // namespace

CloudCommand::CloudCommand(std::string name, std::string help) : app_(std::move(help), "neutrino " + name) {}

CLI::App& CloudCommand::verb(const std::string& name, const std::string& help, Prints prints, Action action) {
  app_.require_subcommand(1);
  CLI::App* verb = app_.add_subcommand(name, help);
  verb->set_help_flag("-h,--help", "print this help and exit");
  verb->callback([this, action = std::move(action)] { chosen_ = action; });
  add_flags(*verb, prints);
  return *verb;
}

CLI::App& CloudCommand::alone(Prints prints, Action action) {
  chosen_ = std::move(action);
  add_flags(app_, prints);
  return app_;
}

void CloudCommand::add_flags(CLI::App& app, Prints prints) {
  if (prints != Prints::nothing) app.add_flag("--json", as_json_, "print JSON");
  if (prints == Prints::list) app.add_flag("--watch", watch_, "show it again at each change, until Ctrl-C");
  add_connection_flags(app, connection_);
}

int CloudCommand::run(int argc, char** argv) {
  if (const auto exit_code = parse_options(app_, argc, argv)) return *exit_code;
  Cloud cloud{.client = CloudClient(choose_context(connection_, load_contexts(contexts_path()))),
              .as_json = as_json_,
              .watch = watch_,
              .screen = standard_screen()};
  return chosen_(cloud);
}

void add_connection_flags(CLI::App& app, ConnectionOptions& connection) {
  const std::string group = "Which control plane";
  app.add_option("--server", connection.server, "its URL (NEUTRINO_SERVER)")->group(group);
  app.add_option("--token", connection.token, "an API key or a session's token (NEUTRINO_TOKEN)")
      ->group(group);
  app.add_option("--workspace", connection.workspace, "of a session that has several (NEUTRINO_WORKSPACE)")
      ->group(group);
  app.add_option("--context", connection.context, "a sign-in by its name, instead of the current one")
      ->group(group);
}

std::string list_text(const json::array& items, const std::vector<ListColumn>& shown, const Screen& screen) {
  std::vector<Column> columns;
  for (const ListColumn& column : shown) columns.push_back({column.title, column.align});
  Table table(std::move(columns));
  for (const json::value& item : items) {
    std::vector<Cell> row;
    for (const ListColumn& column : shown) row.push_back(column.cell(item));
    table.add(std::move(row));
  }
  return table.text(screen);
}

int show_list(Cloud& cloud, const ListView& view) {
  for (;;) {
    Listing listing = cloud.client.list(view.path, view.query, view.items_max);
    if (view.arrange) view.arrange(listing.items);
    print_list(cloud, view, listing.items);
    if (!cloud.watch) return 0;
    wait_for_change(cloud.client, view.kinds, listing.seq);
  }
}

void print_json(const json::value& value) {
  std::printf("%s\n", to_text(value).c_str()), std::fflush(stdout);
}

int say(const Cloud& cloud, const json::value& object, const std::string& line) {
  if (cloud.as_json)
    print_json(object);
  else
    std::printf("%s\n", harmless(line).c_str());
  return 0;
}

int remove_items(Cloud& cloud, std::string_view collection, std::string_view noun,
                 const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    cloud.client.write("DELETE", item_path(collection, name));
    std::printf("%s\n", harmless(fmt::format("{} {} is removed", noun, name)).c_str());
  }
  return 0;
}

const json::value& at(const json::value& object, std::string_view path) {
  static const json::value nothing;
  const json::value* value = &object;
  for (;;) {
    const size_t dot = path.find('.');
    value = value->is_object() ? value->get_object().if_contains(path.substr(0, dot)) : nullptr;
    if (!value) return nothing;
    if (dot == path.npos) return *value;
    path.remove_prefix(dot + 1);
  }
}

std::string text_at(const json::value& object, std::string_view path) {
  const json::value& value = at(object, path);
  if (value.is_null()) return "";
  return value.is_string() ? std::string(value.get_string()) : to_text(value);
}

int64_t integer_at(const json::value& object, std::string_view path) {
  const json::value& value = at(object, path);
  return value.is_number() ? value.to_number<int64_t>() : 0;
}

bool flag_at(const json::value& object, std::string_view path) {
  const json::value& value = at(object, path);
  return value.is_bool() && value.get_bool();
}

std::string list_at(const json::value& object, std::string_view path, std::string_view separator) {
  const json::value& list = at(object, path);
  std::string text;
  if (!list.is_array()) return text;
  for (const json::value& item : list.get_array()) {
    if (!text.empty()) text += separator;
    text += item.is_string() ? std::string(item.get_string()) : to_text(item);
  }
  return text;
}

void put_names(CloudClient& client, json::array& items, std::string_view field, std::string_view collection,
               std::string_view name) {
  std::map<std::string, std::string> names;
  try {
    for (const json::value& item : client.list(collection).items)
      names[text_at(item, "id")] = text_at(item, name);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::permission_denied) throw;
  }
  for (json::value& item : items)
    if (const auto found = names.find(text_at(item, field)); found != names.end())
      item.as_object()[field] = found->second;
}

ListColumn text_column(std::string title, std::string path) {
  return {.title = std::move(title),
          .cell = [path = std::move(path)](const json::value& item) { return Cell{text_at(item, path)}; }};
}

ListColumn age_column(std::string title, std::string path) {
  return {.title = std::move(title), .cell = [path = std::move(path)](const json::value& item) {
            return Cell{time_text(integer_at(item, path), now_ms()), Style::dim};
          }};
}

int64_t now_ms() { return SystemClock().unix_ms(); }

}  // namespace neutrino::cli
