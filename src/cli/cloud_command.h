// What the cloud's commands share: `neutrino NOUN VERB`, flags that say which control plane, tables or JSON, and lists that stay up to
// date.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/cloud_client.h"
#include "cli/terminal/screen.h"
#include "cli/terminal/table.h"

namespace neutrino::cli {

// What a verb is given: whom to ask, and how to show it.
struct Cloud {
  CloudClient client;
  bool as_json = false, watch = false;
  Screen screen;
};

enum class Prints : uint8_t { nothing, data, list };  // data: has --json; list: --watch, too

class CloudCommand {
 public:
  using Action = std::function<int(Cloud&)>;

  // `help` ends with an example.
  CloudCommand(std::string name, std::string help);

  CLI::App& verb(const std::string& name, const std::string& help, Prints prints, Action action);
  // For a command without verbs: its own flags and what it does.
  CLI::App& alone(Prints prints, Action action);
  CLI::App& app() { return app_; }
  int run(int argc, char** argv);

 private:
  void add_flags(CLI::App& app, Prints prints);

  CLI::App app_;
  ConnectionOptions connection_;
  bool as_json_ = false, watch_ = false;
  Action chosen_;
};

void add_connection_flags(CLI::App& app, ConnectionOptions& connection);

// ---- lists

struct ListColumn {
  std::string title;
  std::function<Cell(const json::value& item)> cell;
  Align align = Align::left;
};

struct ListView {
  std::string path;  // "/endpoints"
  Query query = {};
  std::vector<ListColumn> columns;
  std::string empty;  // said where there is nothing
  std::vector<std::string> kinds =
      {};  // of the change log, after which a watched list is read again; empty: every second
  int64_t items_max = 0;
  std::function<void(json::array&)> arrange = {};  // puts them in order, adds what other lists know
};

std::string list_text(const json::array& items, const std::vector<ListColumn>& columns, const Screen& screen);

// The list as a table, or {"items": [...]} as JSON; with --watch again at each change, until the command is interrupted.
int show_list(Cloud& cloud, const ListView& view);

// ---- single things

void print_json(const json::value& value);
// One line, or the object as JSON.
int say(const Cloud& cloud, const json::value& object, const std::string& line);
// DELETE of each name; one line each.
int remove_items(Cloud& cloud, std::string_view collection, std::string_view noun,
                 const std::vector<std::string>& names);

// What stands at a path such as "status.state" or "limits.concurrency"; null: nothing does.
const json::value& at(const json::value& object, std::string_view path);
std::string text_at(const json::value& object, std::string_view path);
int64_t integer_at(const json::value& object, std::string_view path);
bool flag_at(const json::value& object, std::string_view path);
std::string list_at(const json::value& object, std::string_view path, std::string_view separator = ", ");

// Replaces ids in a field of the items by what people call those things: `name` of "/keys". What the caller may not see stays an id.
void put_names(CloudClient& client, json::array& items, std::string_view field, std::string_view collection,
               std::string_view name = "name");

// Columns that many lists have.
ListColumn text_column(std::string title, std::string path);
ListColumn age_column(std::string title, std::string path);
int64_t now_ms();

}  // namespace neutrino::cli
