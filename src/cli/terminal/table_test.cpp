// Tables, widths and words as people see them.
#include "cli/terminal/table.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "cli/terminal/words.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kSecond = 1000, kHour = 3600 * kSecond, kDay = 24 * kHour;

Table example() {
  Table table({{"NAME"}, {"SIZE", Align::right}, {"MESSAGE"}});
  table.add({{"chat"}, {"7"}, {"all is well"}});
  table.add({{"a-longer-name"}, {"1,024"}, {""}});
  return table;
}

TEST(Table, aligns_columns_and_leaves_no_space_at_the_ends) {
  EXPECT_EQ(example().text({}),
            "NAME            SIZE  MESSAGE\n"
            "chat               7  all is well\n"
            "a-longer-name  1,024\n");
}

TEST(Table, gives_way_where_the_screen_is_narrow) {
  EXPECT_EQ(example().text({.columns = 24}),
            "NAME      SIZE  MESSAGE\n"
            "chat         7  all is …\n"
            "a-long…  1,024\n");
  EXPECT_NO_THROW(example().text({.columns = 3}));  // it cannot fit, and is shown all the same
}

TEST(Table, colours_only_where_there_are_some) {
  Table table({{"STATE"}, {"X"}});
  table.add({{"Ready", Style::good}, {"y"}});
  EXPECT_EQ(table.text({}), "STATE  X\nReady  y\n");
  EXPECT_EQ(table.text({.has_colours = true}),
            "\033[1mSTATE\033[0m  \033[1mX\033[0m\n\033[32mReady\033[0m  y\n");
}

TEST(Table, lets_nothing_through_that_a_terminal_would_obey) {
  Table table({{"NAME"}});
  table.add({{"a\033]0;title\007b\nc\u202Ed\x9b"}});
  EXPECT_EQ(table.text({}), "NAME\na?]0;title?b?c?d?\n");
  EXPECT_EQ(harmless("one\r\n\ttwo\033[2J", Controls::lines), "one\n\ttwo?[2J");
}

TEST(Table, counts_columns_not_bytes) {
  EXPECT_EQ(text_width("é"), 1);
  EXPECT_EQ(text_width("e\u0301"), 1);
  EXPECT_EQ(text_width("日本"), 4);
  EXPECT_EQ(text_width("\xff\xe2"), 2);
  EXPECT_EQ(cut("日本語", 5), "日本…");
  EXPECT_EQ(cut("abc", 3), "abc");
  EXPECT_EQ(cut("abcd", 3), "ab…");
  EXPECT_EQ(cut("abcd", 0), "");
}

TEST(Words, say_how_long_ago) {
  const int64_t now = 1'700'000'000'000;
  EXPECT_EQ(time_text(0, now), "-");
  EXPECT_EQ(time_text(now - 10, now), "now");
  EXPECT_EQ(time_text(now - 59 * kSecond, now), "59s ago");
  EXPECT_EQ(time_text(now - 90 * kSecond, now), "1m ago");
  EXPECT_EQ(time_text(now - 50 * kHour, now), "2d ago");
  EXPECT_EQ(time_text(now + 3 * kHour, now), "in 3h");
  EXPECT_EQ(clock_text(now), "2023-11-14 22:13:20");
}

TEST(Words, say_amounts) {
  EXPECT_EQ(money_text(0), "$0.00");
  EXPECT_EQ(money_text(20), "$0.000000020");
  EXPECT_EQ(money_text(42'150'000), "$0.042");
  EXPECT_EQ(money_text(500'000'000), "$0.50");
  EXPECT_EQ(money_text(1'234'567'890), "$1.23");
  EXPECT_EQ(grouped_text(0), "0");
  EXPECT_EQ(grouped_text(999), "999");
  EXPECT_EQ(grouped_text(1'234'567), "1,234,567");
  EXPECT_EQ(grouped_text(-123'456), "-123,456");
}

TEST(Words, are_read) {
  EXPECT_EQ(parse_duration("--x", "90s"), 90 * kSecond);
  EXPECT_EQ(parse_duration("--x", "1.5h"), kHour * 3 / 2);
  EXPECT_EQ(parse_money("--x", "$20"), 20'000'000'000);
  EXPECT_EQ(parse_money("--x", "0.000001"), 1000);
  EXPECT_EQ(parse_moment("--x", "2023-11-14T22:13:20Z", 0), 1'700'000'000'000);
  EXPECT_EQ(parse_moment("--x", "2d", 5 * kDay), 3 * kDay);
  for (const char* bad : {"", "5", "h", "-1h", "1e9d", "1 h", "nan", "soon"}) {
    EXPECT_THROW(parse_duration("--x", bad), Error) << bad;
    EXPECT_THROW(parse_moment("--x", bad, 0), Error) << bad;
  }
  for (const char* bad : {"", "$", "-1", "1,000", "99999999999999", "ten"})
    EXPECT_THROW(parse_money("--x", bad), Error) << bad;
}

}  // namespace
}  // namespace neutrino::cli
