// Routers choose the experts that the authors' code chooses: 1,024 tokens an architecture, recorded from `transformers` by
// tools/model_cases/mixtures.py into the golden cases that have "routing".

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "models/testing/golden_case.h"
#include "models/testing/recording_backend.h"

namespace neutrino::models {
namespace {

using namespace testing;

const std::filesystem::path kFolder = NEUTRINO_SOURCE_DIR "/tests/golden/models";
constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/";

struct Recorded {
  int64_t sequences = 0;
  std::vector<int32_t> tokens;
  std::vector<std::string> experts;  // of each router: the chosen of every token, in ascending order
};

Recorded read_recorded(const GoldenCase& golden) {
  const json::object& routing = golden.file.at("routing").as_object();
  Recorded recorded{.sequences = routing.at("sequences").to_number<int64_t>(), .tokens = {}, .experts = {}};
  for (const json::value& token : routing.at("tokens").as_array())
    recorded.tokens.push_back(token.to_number<int32_t>());
  for (const json::value& text : routing.at("experts").as_array())
    recorded.experts.emplace_back(text.as_string());
  return recorded;
}

std::vector<std::string> cases_with_routing() {
  std::vector<std::string> names;
  for (const std::string& name : golden_case_names(kFolder))
    if (read_golden_case(kFolder, name).file.contains("routing")) names.push_back(name);
  return names;
}

// Appends the chosen experts of each router, one call of route() each, as text.
void append_routes(const std::vector<RecordingBackend::Route>& routes, std::vector<std::string>& experts) {
  experts.resize(std::max(experts.size(), routes.size()));
  for (size_t router = 0; router < routes.size(); ++router) {
    std::vector<int32_t> ids = routes[router].experts;
    for (auto row = ids.begin(); row != ids.end(); row += routes[router].used)
      std::sort(row, row + routes[router].used);
    for (const int32_t id : ids) experts[router] += kDigits[static_cast<size_t>(id)];
  }
}

// What our routers choose for the recorded tokens.
std::vector<std::string> run_routers(const std::filesystem::path& checkpoint, const Recorded& recorded,
                                     RecordingBackend::Spoil spoil = {}) {
  const auto file = weights::open_weight_file(checkpoint);
  const auto cpu = compute::make_cpu_backend({.arithmetic = compute::Arithmetic::float32, .threads = 1});
  RecordingBackend backend(*cpu, std::move(spoil));
  const auto model = load_model(*file, backend);
  const auto length = static_cast<int64_t>(recorded.tokens.size()) / recorded.sequences;
  std::vector<std::string> experts;
  for (int64_t i = 0; i < recorded.sequences; ++i) {
    const auto first = recorded.tokens.begin() + i * length;
    run_tokens(*model, backend, {first, first + length});
    append_routes(backend.take_routes(), experts);
  }
  return experts;
}

class MoeRouting : public ::testing::TestWithParam<std::string> {
 protected:
  MoeRouting() : golden_(read_golden_case(kFolder, GetParam())), recorded_(read_recorded(golden_)) {
    write_checkpoint(golden_, folder_.path());
  }

  GoldenCase golden_;
  Recorded recorded_;
  TemporaryFolder folder_;
};

TEST_P(MoeRouting, ChoosesTheExpertsOfTransformers) {
  EXPECT_GE(recorded_.tokens.size(), 1000u);
  EXPECT_GE(recorded_.experts.size(), 2u);
  EXPECT_EQ(run_routers(folder_.path(), recorded_), recorded_.experts);
}

// The negative control: with another gating the comparison fails. (Where a gating only scales what it ranks, it does so from
// the second router on, by what the first one's experts add.)
TEST_P(MoeRouting, AnotherGatingShows) {
  using compute::Gating;
  EXPECT_NE(run_routers(folder_.path(), recorded_,
                        [](compute::RouterShape& router) {
                          router.gating =
                              router.gating == Gating::sigmoid ? Gating::softmax : Gating::sigmoid;
                        }),
            recorded_.experts);
}

INSTANTIATE_TEST_SUITE_P(Models, MoeRouting, ::testing::ValuesIn(cases_with_routing()), [](const auto& test) {
  std::string name = test.param;
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
});

}  // namespace
}  // namespace neutrino::models
