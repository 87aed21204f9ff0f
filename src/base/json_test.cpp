#include "base/json.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace neutrino {
namespace {

TEST(Json, KeepsOrderAndText) {
  for (const char* text : {R"({"b":1,"a":[true,null,-2,"x\n\"\\\u0001é"],"c":{}})", "[]",
                           "[1.5,-0.25,2.0,-0.0,1e+30,18446744073709551615]", R"("\u0000")"})
    EXPECT_EQ(to_text(parse_json(text)), text);
}

TEST(Json, NumbersReadBackAsTheyWere) {
  for (const double value : {0.1, 1.0, -11.550183296203613, 1e-300, 1.7976931348623157e308})
    EXPECT_DOUBLE_EQ(parse_json(to_text(value)).to_number<double>(), value);
  EXPECT_EQ(to_text(std::numeric_limits<double>::quiet_NaN()), "null");
}

TEST(Json, RefusesWhatIsNotOneBoundedText) {
  std::string deep(300, '['), wide = "[";
  for (int i = 0; i < 1'000'001; ++i) wide += "0,";
  for (const std::string& text :
       {std::string(""), std::string("{"), std::string("{\"a\":1,\"a\":2}"), std::string("[1] 2"),
        std::string("NaN"), std::string("\"\xff\""), deep, wide}) {
    try {
      parse_json(text);
      ADD_FAILURE() << text.substr(0, 40);
    } catch (const Error& error) {
      EXPECT_EQ(error.reason(), "invalid_json");
    }
  }
}

}  // namespace
}  // namespace neutrino
