#include "net/route.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace neutrino::net {
namespace {

const std::vector<Route> kRoutes = {
    {{.method = Method::get, .path = "/v1/things", .auth = AuthPolicy::inference}, {}},
    {{.method = Method::post, .path = "/v1/things", .auth = AuthPolicy::inference}, {}},
    {{.method = Method::get, .path = "/v1/things/{id}", .auth = AuthPolicy::open}, {}},
    {{.method = Method::post,
      .path = "/v1/things/{id}/cancel",
      .auth = AuthPolicy::inference,
      .query = R"([{"name":"now","in":"query","schema":{"enum":["yes"]}}])"},
     {}},
    {{.method = Method::get, .path = "/files/{path...}", .auth = AuthPolicy::inference}, {}},
};

std::string route_of(Method method, std::string path) {
  Request request{.method = method, .path = std::move(path)};
  try {
    find_route(kRoutes, request);
    return std::string(request.route->path) + (request.parameter.empty() ? "" : "=" + request.parameter);
  } catch (const Error& error) {
    return error.reason();
  }
}

TEST(Routes, AreFoundByMethodAndShape) {
  EXPECT_EQ(route_of(Method::get, "/v1/things"), "/v1/things");
  EXPECT_EQ(route_of(Method::head, "/v1/things"), "/v1/things");
  EXPECT_EQ(route_of(Method::get, "/v1/things/a%20b%2Fc"), "/v1/things/{id}=a b/c");
  EXPECT_EQ(route_of(Method::post, "/v1/things/x/cancel"), "/v1/things/{id}/cancel=x");
  EXPECT_EQ(route_of(Method::get, "/files/a"), "/files/{path...}=a");
  EXPECT_EQ(route_of(Method::get, "/files/a%2F/b//c/"), "/files/{path...}=a%2F/b//c/");  // as sent
  EXPECT_EQ(route_of(Method::get, "/files"), "route_not_found");
  EXPECT_EQ(route_of(Method::get, "/files/"), "route_not_found");
  EXPECT_EQ(route_of(Method::put, "/v1/things"), "method_not_allowed");
  EXPECT_EQ(route_of(Method::other, "/v1/things"), "method_not_allowed");
  for (const std::string path :
       {"/", "/v1", "/v1/things/", "/v1/things/x/", "/v1/things//cancel", "//v1/things", "/v1/things/%",
        "/v1/things/%zz", "/v1/things/%00", "/v1/../v1/things", "/V1/things"})
    EXPECT_EQ(route_of(Method::get, path), "route_not_found") << path;
}

TEST(Routes, SayWhatAPathTakes) {
  EXPECT_EQ(allowed_methods(kRoutes, "/v1/things"), "GET, HEAD, POST, OPTIONS");
  EXPECT_EQ(allowed_methods(kRoutes, "/nothing"), "");
}

TEST(Routes, AreDescribed) {
  const json::value document = parse_json(openapi_document(kRoutes, "t"));
  EXPECT_EQ(document.at("openapi"), "3.1.0");
  const json::value& item = document.at("paths").at("/v1/things/{id}").at("get");
  EXPECT_EQ(item.at("parameters").as_array().at(0).at("name"), "id");
  EXPECT_TRUE(item.at("security").as_array().empty());
  EXPECT_EQ(document.at("paths").at("/v1/things").as_object().size(), 2U);
  EXPECT_FALSE(document.at("paths").at("/v1/things").at("get").as_object().contains("parameters"));
  const json::array& both =
      document.at("paths").at("/v1/things/{id}/cancel").at("post").at("parameters").as_array();
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0].at("in"), "query");
  EXPECT_EQ(both[1].at("in"), "path");
}

}  // namespace
}  // namespace neutrino::net
