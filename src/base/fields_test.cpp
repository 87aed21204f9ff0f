#include "base/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace neutrino {
namespace {

struct Port {
  std::string name;
  int64_t number = 0;
  static constexpr auto fields() {
    return std::tuple(field("name", &Port::name), field("number", &Port::number));
  }
};

enum class Colour : uint8_t { red, dark_green };
constexpr std::array<std::string_view, 2> enum_names(Colour) { return {"Red", "DarkGreen"}; }

struct Thing {
  std::string id;
  int64_t count = 7;
  double share = 0.5;
  bool on = false;
  std::optional<std::string> alias;
  std::optional<int64_t> limit;
  std::vector<std::string> tags;
  std::vector<Port> ports;
  Port main_port;
  json::value extra;
  std::string password;
  Colour colour = Colour::red;
  static constexpr auto fields() {
    return std::tuple(field("id", &Thing::id, {.key = true, .read_only = true}),
                      field("count", &Thing::count, {.help = "how many"}), field("share", &Thing::share),
                      field("on", &Thing::on), field("alias", &Thing::alias), field("limit", &Thing::limit),
                      field("tags", &Thing::tags), field("ports", &Thing::ports),
                      field("main_port", &Thing::main_port), field("extra", &Thing::extra),
                      field("password", &Thing::password, {.secret = true}), field("colour", &Thing::colour));
  }
};

TEST(Fields, json_there_and_back) {
  const std::string text =
      R"({"id":"a","count":-3,"share":0.25,"on":true,"alias":"b","limit":null,"tags":["x","y"],)"
      R"("ports":[{"name":"http","number":80}],"main_port":{"name":"ssh","number":22},"extra":{"k":[1,2]},"colour":"DarkGreen"})";
  Thing thing;
  thing.limit = 4;
  read_json(thing, parse_json(text), Accept::from_storage);
  EXPECT_EQ(thing.limit, std::nullopt);
  EXPECT_EQ(thing.ports.at(0).number, 80);
  EXPECT_EQ(thing.colour, Colour::dark_green);
  EXPECT_EQ(to_text(to_json(thing)), text);
}

TEST(Fields, secrets_are_shown_only_when_all_fields_are_asked_for) {
  const Thing thing{.password = "hunter2"};
  EXPECT_FALSE(to_json(thing).contains("password"));
  EXPECT_EQ(to_json(thing, Show::all_fields).at("password"), "hunter2");
}

TEST(Fields, what_is_not_brought_stays) {
  Thing thing{.alias = "old"};
  read_json(thing, parse_json(R"({"count":1})"), Accept::from_client);
  EXPECT_EQ(thing.count, 1);
  EXPECT_EQ(thing.alias, "old");
}

TEST(Fields, what_is_wrong_is_named_with_its_path) {
  struct Case {
    std::string body, param, message;
  };
  const std::vector<Case> cases = {
      {R"({"count":"many"})", "count", R"(count must be an integer, got "many")"},
      {R"({"count":1.5})", "count", "count must be an integer, got 1.5"},
      {R"({"count":18446744073709551615})", "count", "count must be an integer, got 18446744073709551615"},
      {R"({"count":null})", "count", "count must be an integer, got null"},
      {R"({"on":1})", "on", "on must be true or false, got 1"},
      {R"({"share":"half"})", "share", R"(share must be a number, got "half")"},
      {R"({"alias":5})", "alias", "alias must be a string, got 5"},
      {R"({"tags":["a",2]})", "tags[1]", "tags[1] must be a string, got 2"},
      {R"({"ports":[{},{"number":"x"}]})", "ports[1].number",
       R"(ports[1].number must be an integer, got "x")"},
      {R"({"main_port":{"nummer":1}})", "main_port.nummer", "main_port.nummer is not a known field"},
      {R"({"id":"mine"})", "id", "id is read-only"},
      {R"([])", "the body", "the body must be an object, got []"},
  };
  for (const Case& c : cases) {
    Thing thing;
    try {
      read_json(thing, parse_json(c.body), Accept::from_client);
      ADD_FAILURE() << c.body;
    } catch (const Error& error) {
      EXPECT_EQ(error.message(), c.message);
      EXPECT_EQ(error.param(), c.param);
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    }
  }
}

TEST(Fields, storage_may_hold_fields_that_are_read_only_or_gone) {
  Thing thing;
  read_json(thing, parse_json(R"({"id":"mine","gone":1})"), Accept::from_storage);
  EXPECT_EQ(thing.id, "mine");
}

}  // namespace
}  // namespace neutrino
