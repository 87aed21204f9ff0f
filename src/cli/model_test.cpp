#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "cli/command.h"
#include "weights/testing/gguf_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::cli {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  int exit_code = 0;
  std::string output;
};

class ModelCommand : public ::testing::Test {
 protected:
  ModelCommand() { ::setenv("NEUTRINO_HOME", (folder_.path() / "home").c_str(), 1); }
  ~ModelCommand() override { ::unsetenv("NEUTRINO_HOME"); }

  Outcome run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "model");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::testing::internal::CaptureStdout();
    Outcome outcome;
    try {
      outcome.exit_code = run_model(static_cast<int>(arguments.size()), argv.data());
    } catch (const Error& error) {
      outcome.exit_code = error_exit_code(error.code());
      outcome.output = error.message();
    }
    std::fflush(stdout);
    outcome.output += ::testing::internal::GetCapturedStdout();
    return outcome;
  }

  weights::testing::TemporaryFolder folder_;
  std::string file_ = folder_.put("in/tiny.gguf", serialise(weights::testing::tiny_llama())).string();
};

TEST_F(ModelCommand, imports_lists_shows_verifies_and_removes) {
  EXPECT_THAT(run({"list"}).output, HasSubstr("the store is empty"));
  EXPECT_THAT(run({"import", file_, "--name", "my-model"}).output,
              HasSubstr("my-model is in the store: llama, q8_0"));
  EXPECT_THAT(run({"list"}).output, HasSubstr("my-model"));
  EXPECT_THAT(run({"show", "my-model"}).output, HasSubstr("apache-2.0"));
  EXPECT_THAT(run({"show", "my-model"}).output, HasSubstr("warning: no template that neutrino knows"));
  EXPECT_THAT(run({"show", "my-model", "--template"}).output, HasSubstr("{% for message in messages %}"));
  EXPECT_THAT(run({"verify", "my-model"}).output, HasSubstr("is whole"));
  EXPECT_THAT(run({"rm", "my-model"}).output, HasSubstr("is removed"));
  EXPECT_EQ(run({"show", "my-model"}).exit_code, 1);
}

TEST_F(ModelCommand, prints_json) {
  const auto imported = parse_json(run({"import", file_, "--json"}).output);
  EXPECT_EQ(imported.at("name").as_string(), "tiny");
  EXPECT_EQ(parse_json(run({"list", "--json"}).output).at("models").as_array().size(), 1u);
  json::object shown = parse_json(run({"show", "tiny", "--json", "--batch", "3"}).output).as_object();
  EXPECT_EQ(shown.at("details").at("tensors"), 11);
  EXPECT_EQ(shown.at("details").at("types").at("q8_0").at("tensors"), 8);
  // 256 tokens of 3 sequences: keys and values of 2 layers, 2 heads of 32 (padded), bfloat16.
  EXPECT_EQ(shown.at("details").at("memory").at("batch"), 3);
  EXPECT_EQ(shown.at("details").at("memory").at("kv_bytes").to_number<int64_t>() % (3 * 256), 0);
  shown.erase("details");
  EXPECT_EQ(shown, imported);
  EXPECT_EQ(parse_json(run({"verify", "tiny", "--json"}).output).at("verified"), true);
}

// Layer 0 keeps a window of 32 tokens, layer 1 everything.
TEST_F(ModelCommand, foretells_that_windows_take_little_memory) {
  using namespace weights::testing;
  GgufImage image = tiny_llama({.num_hidden_layers = 2});
  image.set(u32_value("llama.context_length", 4096));
  const auto memory = [&](const char* name) {
    const std::string path = folder_.put(std::string("in/") + name, serialise(image)).string();
    const json::value shown = parse_json(run({"show", path, "--json", "--batch", "3"}).output);
    return shown.at("details").at("memory").as_object();
  };
  const json::object plain = memory("plain.gguf");
  EXPECT_FALSE(plain.contains("window"));
  image.set(u32_value("llama.attention.sliding_window", 32));
  image.set(u32_value("llama.attention.sliding_window_pattern", 2));
  const json::object windowed = memory("windowed.gguf");
  const auto kv = [](const json::object& of) { return of.at("kv_bytes").to_number<int64_t>(); };
  // Of 3 sequences: 128 blocks each of the one layer; 3 each of the other, and 16 for a step of 512 tokens.
  EXPECT_EQ(kv(windowed), kv(plain) / (2 * 3 * 128) * (3 * 128 + 3 * 3 + 16));
  EXPECT_EQ(windowed.at("window"), 32);
  EXPECT_EQ(windowed.at("window_bytes").to_number<int64_t>(), kv(plain) / (2 * 3 * 128) * 25);
  EXPECT_THAT(run({"show", (folder_.path() / "in/windowed.gguf").string()}).output,
              HasSubstr("of them for windows of 32"));
}

TEST_F(ModelCommand, bad_usage_is_exit_code_2) {
  EXPECT_EQ(run({"verify", "../x"}).exit_code, 2);
  EXPECT_EQ(run({"show", ".x"}).exit_code, 2);
  EXPECT_EQ(run({"show", "../x"}).exit_code, 1);  // a path, where nothing is
  EXPECT_THAT(run({"show", file_}).output, HasSubstr(file_));
  EXPECT_EQ(run({"import", file_, "--name", "a/b"}).exit_code, 2);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run({}).exit_code, 2);
  EXPECT_EQ(run({"frobnicate"}).exit_code, 2);
  ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(run({"import", "--help"}).output, HasSubstr("Example:"));
}

TEST_F(ModelCommand, converts_and_remembers_where_it_came_from) {
  const std::string out = file_ + ".f16.gguf";
  const auto converted = run({"convert", file_, out, "--type", "f16", "--json"});
  EXPECT_EQ(converted.exit_code, 0);
  EXPECT_EQ(parse_json(converted.output).at("path").as_string(), out);
  EXPECT_EQ(run({"convert", file_, out}).exit_code, 1);  // it is there already
  EXPECT_EQ(run({"quantize", file_, out + "2.gguf", "--type", "q9"}).exit_code, 2);
  EXPECT_EQ(run({"import", out, "--name", "derived"}).exit_code, 0);
  const auto text = run({"show", "derived"}).output;
  EXPECT_THAT(text, HasSubstr("made by        convert of"));
  EXPECT_THAT(text, HasSubstr("f16"));
  const std::string folder = file_ + ".checkpoint";
  EXPECT_EQ(run({"convert", file_, folder}).exit_code, 0);
  EXPECT_EQ(run({"merge", file_, folder, "--out", file_ + ".merged.gguf", "--method", "linear"}).exit_code,
            0);
}

}  // namespace
}  // namespace neutrino::cli
