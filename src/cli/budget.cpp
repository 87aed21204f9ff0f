// neutrino budget set|list|rm: what may be spent in a period.

#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

struct BudgetOptions {
  std::string name, amount, key, member, period = "month";
  std::vector<std::string> names;
  int64_t tokens = -1;
  bool hard = false;
};

std::string amount_text(const json::value& budget, std::string_view field) {
  const int64_t amount = integer_at(budget, field);
  return text_at(budget, "unit") == "tokens" ? grouped_text(amount) + " tokens" : money_text(amount);
}

Cell spent_cell(const json::value& budget) {
  const int64_t amount = integer_at(budget, "amount"), spent = integer_at(budget, "spent");
  const double percent = amount > 0 ? 100.0 * static_cast<double>(spent) / static_cast<double>(amount) : 0;
  const Style style = percent >= 100 ? Style::bad : percent >= 80 ? Style::warning : Style::plain;
  return {fmt::format("{} ({:.0f} %)", amount_text(budget, "spent"), percent), style};
}

int run_list(Cloud& cloud) {
  return show_list(
      cloud,
      {.path = "/budgets",
       .columns = {text_column("NAME", "name"),
                   text_column("OF", "subject"),
                   {"AMOUNT", [](const json::value& item) { return Cell{amount_text(item, "amount")}; },
                    Align::right},
                   {"SPENT", spent_cell, Align::right},
                   text_column("PERIOD", "period"),
                   {"BEYOND IT",
                    [](const json::value& item) {
                      return Cell{flag_at(item, "hard") ? "requests are refused" : "an event"};
                    }}},
       .empty = "no budgets: `neutrino budget set NAME --amount $20` makes one",
       .kinds = {"budget"}});
}

json::object body_of(Cloud& cloud, const BudgetOptions& options) {
  json::object body{{"name", options.name}, {"period", options.period}, {"hard", options.hard}};
  const bool of_tokens = options.tokens >= 0;
  if (of_tokens != options.amount.empty())
    throw make_error(ErrorCode::invalid_argument, "a budget needs --amount or --tokens, not both");
  body["unit"] = of_tokens ? "tokens" : "nanodollars";
  body["amount"] = of_tokens ? options.tokens : parse_money("--amount", options.amount);
  body["subject"] = !options.key.empty() ? "key" : !options.member.empty() ? "member" : "workspace";
  if (!options.key.empty())
    body["subject_id"] = text_at(cloud.client.get(item_path("keys", options.key)), "id");
  if (!options.member.empty())
    body["subject_id"] = text_at(cloud.client.get(item_path("members", options.member)), "id");
  return body;
}

int run_set(Cloud& cloud, const BudgetOptions& options) {
  const json::value budget =
      cloud.client.write("PUT", item_path("budgets", options.name), body_of(cloud, options));
  return say(cloud, budget,
             fmt::format("budget {} is {} a {}; beyond it {}", options.name, amount_text(budget, "amount"),
                         options.period == "total" ? "lifetime" : options.period,
                         options.hard ? "requests are refused" : "there is an event"));
}

}  // namespace

int run_budget(int argc, char** argv) {
  CloudCommand command(
      "budget",
      "What may be spent in a period.\nExample: neutrino budget set lab --amount $20 --period month --hard");
  BudgetOptions options;
  CLI::App& set = command.verb(
      "set",
      "make or replace one\nExample: neutrino budget set ci --key ci --tokens 1000000 --period day --hard",
      Prints::data, [&](Cloud& cloud) { return run_set(cloud, options); });
  set.add_option("NAME", options.name, "its name")->required();
  set.add_option("--amount", options.amount, "in dollars, as $20");
  set.add_option("--tokens", options.tokens, "or in tokens")->check(CLI::NonNegativeNumber);
  CLI::Option* key = set.add_option("--key", options.key, "of one key, by name (default: of the workspace)");
  set.add_option("--member", options.member, "of one member, by address")->excludes(key);
  set.add_option("--period", options.period, "day, month or total, in UTC")
      ->check(CLI::IsMember({"day", "month", "total"}))
      ->capture_default_str();
  set.add_flag("--hard", options.hard,
               "refuse requests that would go beyond it (default: say so in an event)");
  command.verb("list", "all of them, with what is spent\nExample: neutrino budget list --watch", Prints::list,
               run_list);
  command
      .verb("rm", "remove some\nExample: neutrino budget rm lab", Prints::nothing,
            [&](Cloud& cloud) { return remove_items(cloud, "budgets", "budget", options.names); })
      .add_option("NAME", options.names, "names or ids")
      ->required();
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
