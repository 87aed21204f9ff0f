// What flags of `neutrino endpoint create` and `update` ask the API for.
#include "cli/endpoint_changes.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace neutrino::cli {
namespace {

constexpr const char* kOne =
    R"({"name":"chat","deployments":[{"name":"main","model":"smol","weight":100,"revision":3}]})";
constexpr const char* kTwo =
    R"({"deployments":[{"name":"main","model":"smol","environment":[{"name":"A","value":"1"}]},{"name":"canary","command":["x"],"model":""}]})";

std::string changes(const std::string& flags, const char* current = nullptr) {
  CLI::App app;
  EndpointFlags parsed;
  add_endpoint_flags(app, parsed);
  app.add_option("--remove-deployment", parsed.removed_deployment);
  app.parse(flags);
  return to_text(json::value(endpoint_changes(parsed, current ? parse_json(current) : nullptr)));
}

TEST(EndpointChanges, of_a_new_one) {
  EXPECT_EQ(changes("--model smol"), R"({"deployments":[{"name":"main","model":"smol"}]})");
  EXPECT_EQ(
      changes(
          "--model smol --replicas-min 1 --replicas-max 3 --idle-timeout 30m --policy prefix --alias gpt"),
      R"({"policy":"prefix","aliases":["gpt"],"scaling":{"replicas_min":1,"replicas_max":3,"idle_timeout_s":1800},)"
      R"("deployments":[{"name":"main","model":"smol"}]})");
  EXPECT_EQ(changes("--command ./stub --command={port} --env A=1=2 --env-secret TOKEN=hf --memory 2G"),
            R"({"deployments":[{"name":"main","command":["./stub","{port}"],"memory_bytes":2147483648,)"
            R"("environment":[{"name":"A","value":"1=2"},{"name":"TOKEN","secret":"hf"}]}]})");
  EXPECT_EQ(
      changes("--idle-timeout never --model m --set limits.concurrency=8 --set paused=true"),
      R"({"scaling":{"idle_timeout_s":0},"deployments":[{"name":"main","model":"m"}],"limits":{"concurrency":8},"paused":true})");
}

TEST(EndpointChanges, of_one_that_is_there_are_only_what_was_said) {
  EXPECT_EQ(changes("", kOne), "{}");
  EXPECT_EQ(changes("--replicas-max 4", kOne), R"({"scaling":{"replicas_max":4}})");
  EXPECT_EQ(changes("--model big", kOne), R"({"deployments":[{"name":"main","model":"big","weight":100}]})");
  EXPECT_EQ(changes("--model smol", kOne), "{}");
  EXPECT_EQ(
      changes("--deployment canary --model big --weight 10", kOne),
      R"({"deployments":[{"name":"main","model":"smol","weight":100},{"name":"canary","model":"big","weight":10}]})");
  EXPECT_EQ(
      changes("--deployment main --env A=2 --env B=3", kTwo),
      R"({"deployments":[{"name":"main","model":"smol","environment":[{"name":"A","value":"2"},{"name":"B","value":"3"}]},)"
      R"({"name":"canary","command":["x"],"model":""}]})");
  EXPECT_EQ(changes("--remove-deployment canary", kTwo),
            R"({"deployments":[{"name":"main","model":"smol","environment":[{"name":"A","value":"1"}]}]})");
  EXPECT_EQ(changes("--replicas -1", kOne),
            R"({"deployments":[{"name":"main","model":"smol","weight":100,"replicas":null}]})");
}

TEST(EndpointChanges, that_cannot_be_meant_are_refused) {
  for (const char* flags : {"--weight 5", "--remove-deployment nonesuch"})
    EXPECT_THROW(changes(flags, kTwo), Error) << flags;
  for (const char* flags : {"--env A", "--env =x", "--set x", "--memory lots", "--idle-timeout soon"})
    EXPECT_THROW(changes(flags), Error) << flags;
}

}  // namespace
}  // namespace neutrino::cli
