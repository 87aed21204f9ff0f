// Settings from every source, their order, and what cannot be honoured.
#include "cli/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace neutrino::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

struct Config {
  std::string model, config, profile = "default", kv_type = "bf16", prefix_cache = "on", api_key;
  int port = 8000;
  std::vector<std::string> names;
  bool exact = false;
};

void add_options(CLI::App& app, Config& config) {
  app.add_option("MODEL", config.model, "")->required();
  app.add_option("--config", config.config, "");
  app.add_option("--profile", config.profile, "")->capture_default_str();
  app.add_option("--kv-type", config.kv_type, "")->capture_default_str();
  app.add_option("--prefix-cache", config.prefix_cache, "")->capture_default_str();
  app.add_option("--api-key", config.api_key, "")->envname("NEUTRINO_API_KEY");
  app.add_option("--port", config.port, "")->capture_default_str();
  app.add_option("--served-model-name", config.names, "");
  app.add_flag("--exact", config.exact, "");
  for (CLI::Option* option : app.get_options())
    if (option->get_items_expected_max() == 1) option->take_last();
}

struct Outcome {
  Config config;
  GatheredSettings gathered;
  json::array settings;
  std::string source(std::string_view name) const {
    for (const json::value& setting : settings)
      if (setting.at("name") == json::string_view(name.data(), name.size()))
        return std::string(setting.at("source").as_string());
    return "";
  }
};

Outcome settle(std::vector<const char*> arguments, const Variables& variables) {
  arguments.insert(arguments.begin(), "serve");
  const Environment environment{.get = [&](const std::string& name) -> std::optional<std::string> {
                                  const auto found = variables.find(name);
                                  return found == variables.end() ? std::nullopt
                                                                  : std::optional(found->second);
                                },
                                .names =
                                    [&](std::string_view prefix) {
                                      std::vector<std::string> names;
                                      for (const auto& [name, value] : variables)
                                        if (name.starts_with(prefix)) names.push_back(name);
                                      return names;
                                    }};
  const auto profile = [](const std::string&, const std::string& name) -> Variables {
    return name == "small" ? Variables{{"kv-type", "q8_0"}} : Variables{{"exact", "true"}};
  };
  Config probe_config;
  CLI::App probe;
  add_options(probe, probe_config);
  Outcome outcome;
  outcome.gathered =
      gather_settings(probe, static_cast<int>(arguments.size()), arguments.data(), environment, profile);
  CLI::App app;
  add_options(app, outcome.config);
  std::vector<std::string> reversed(outcome.gathered.arguments.rbegin(), outcome.gathered.arguments.rend());
  app.parse(reversed);
  outcome.settings = settings_json(app, outcome.gathered);
  return outcome;
}

TEST(Settings, FlagsBeforeOurVariablesBeforeNims) {
  const Variables both{{"NEUTRINO_PORT", "2"}, {"NIM_SERVER_PORT", "3"}, {"NIM_MODEL_NAME", "tiny"}};
  EXPECT_EQ(settle({"m", "--port", "1"}, both).config.port, 1);
  EXPECT_EQ(settle({"m", "--port", "1"}, both).source("port"), "flag");
  const Outcome outcome = settle({}, both);
  EXPECT_EQ(outcome.config.port, 2);
  EXPECT_EQ(outcome.source("port"), "NEUTRINO_PORT");
  EXPECT_EQ(outcome.config.model, "tiny");
  EXPECT_EQ(outcome.source("MODEL"), "NIM_MODEL_NAME");
  EXPECT_EQ(settle({}, {{"NIM_SERVER_PORT", "3"}, {"NIM_MODEL_NAME", "t"}}).config.port, 3);
  EXPECT_EQ(settle({"m"}, {}).source("port"), "default");
  EXPECT_EQ(settle({"m", "--port=4"}, {{"NIM_PASSTHROUGH_ARGS", "--port 5 --kv-type 'q8_0'"}}).config.port,
            4);
  EXPECT_EQ(settle({"m"}, {{"NIM_PASSTHROUGH_ARGS", "--port 5"}, {"NEUTRINO_PORT", "6"}}).config.port, 5);
}

TEST(Settings, ListsFlagsAndWordsOfNim) {
  const Outcome outcome = settle({"m"}, {{"NIM_SERVED_MODEL_NAME", "a,b"},
                                         {"NIM_ENABLE_KV_CACHE_REUSE", "0"},
                                         {"NEUTRINO_EXACT", "1"},
                                         {"NIM_TENSOR_PARALLEL_SIZE", "1"},
                                         {"NIM_FORCE_DETERMINISTIC", "1"},
                                         {"NIM_NEW_THING", "1"}});
  EXPECT_THAT(outcome.config.names, ElementsAre("a", "b"));
  EXPECT_EQ(outcome.config.prefix_cache, "off");
  EXPECT_TRUE(outcome.config.exact);
  EXPECT_THAT(outcome.gathered.notes,
              ElementsAre(HasSubstr("NIM_FORCE_DETERMINISTIC"), HasSubstr("NIM_NEW_THING: not known")));
  EXPECT_FALSE(settle({"m"}, {{"NEUTRINO_EXACT", "0"}}).config.exact);
}

TEST(Settings, ProfileThenFileThenDefault) {
  const std::string path = ::testing::TempDir() + "settings.json";
  std::ofstream(path) << R"({"port": 7, "kv-type": "f16", "served-model-name": ["x", "y"], "exact": false})";
  const Outcome outcome = settle({"m", "--config", path.c_str()}, {{"NIM_MODEL_PROFILE", "small"}});
  EXPECT_EQ(outcome.config.port, 7);
  EXPECT_EQ(outcome.source("port"), path);
  EXPECT_EQ(outcome.config.kv_type, "q8_0");
  EXPECT_EQ(outcome.source("kv-type"), "profile");
  EXPECT_THAT(outcome.config.names, ElementsAre("x", "y"));
  EXPECT_EQ(settle({"m", "--kv-type", "bf16"}, {{"NIM_MODEL_PROFILE", "small"}}).config.kv_type, "bf16");
  EXPECT_EQ(settle({"m"}, {{"NIM_MODEL_PROFILE", "default"}}).config.kv_type, "bf16");
}

TEST(Settings, WhatCannotBeHonouredIsAnError) {
  EXPECT_THROW(settle({"m"}, {{"NIM_PEFT_SOURCE", "/x"}}), Error);  // this App has no --lora-dir
  EXPECT_THROW(settle({"m"}, {{"NIM_TENSOR_PARALLEL_SIZE", "2"}}), Error);
  EXPECT_THROW(settle({"m"}, {{"NEUTRINO_EXACT", "maybe"}}), Error);
  const std::string path = ::testing::TempDir() + "bad.json";
  std::ofstream(path) << R"({"prot": 7})";
  EXPECT_THROW(settle({"m", "--config", path.c_str()}, {}), Error);
}

TEST(Settings, KeysAreNotShown) {
  const Outcome outcome = settle({"m"}, {{"NEUTRINO_API_KEY", "secret,with comma"}});
  EXPECT_EQ(outcome.config.api_key, "secret,with comma");
  EXPECT_EQ(outcome.source("api-key"), "NEUTRINO_API_KEY");
  EXPECT_THAT(to_text(json::value(outcome.settings)), ::testing::Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace neutrino::cli
