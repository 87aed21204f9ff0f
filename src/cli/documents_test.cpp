// Documents of `neutrino apply`: what is wrong is told with its line before anything is sent.
#include "cli/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace neutrino::cli {
namespace {

std::string error_of(const std::string& text) {
  try {
    read_documents(text, "f.yaml");
  } catch (const Error& error) {
    return error.message();
  }
  return "nothing was thrown";
}

TEST(Documents, are_checked_against_the_fields_of_the_api) {
  const struct {
    const char *yaml, *message;
  } cases[] = {
      {"name: chat", "f.yaml:1:1: the document needs a kind"},
      {"kind: Endpont\nname: x", "f.yaml:1:1: kind must be one of Shape, "},
      {"kind: Endpoint", "f.yaml:1:1: the document needs a name"},
      {"kind: Endpoint\nname: 7", "f.yaml:2:1: name must be a text, got 7"},
      {"kind: Price\nname: x", "f.yaml:1:1: the document needs a model"},
      {"kind: Endpoint\nname: chat\nscaling:\n  replicas_mx: 2\n",
       "f.yaml:4:3: scaling.replicas_mx is not a known field"},
      {"kind: Endpoint\nname: chat\ndeployments:\n  - model: m\n    weight: high\n",
       "f.yaml:5:5: deployments[0].weight must be an integer"},
      {"kind: Endpoint\nname: chat\netag: 3", "f.yaml:3:1: etag is read-only"},
      {"kind: Member\nemail: a@b\nrole: king", "f.yaml:3:1: role must be one of"},
      {"kind: Secret\nname: x\nsealed: y", "f.yaml:3:1: sealed is not a known field"},
      {"kind: Shape\nname: s\n---\nkind: Shape\nname: s", "f.yaml:4:1: Shape s is there twice"},
      {"- a", "f.yaml:1:1: a document must be fields"},
  };
  for (const auto& [yaml, message] : cases)
    EXPECT_THAT(error_of(yaml), ::testing::StartsWith(message)) << yaml;
}

TEST(Documents, an_error_of_the_api_is_placed_too) {
  const auto documents =
      read_documents("kind: Endpoint\nname: chat\ndeployments:\n  - model: m\n    shape: huge\n", "f.yaml");
  const Error error =
      placed(Error(ErrorCode::invalid_argument, "no such shape").with_param("deployments[0].shape"),
             documents.at(0));
  EXPECT_STREQ(error.what(), "f.yaml:5:5: no such shape");
}

TEST(Documents, of_what_is_there_say_only_what_is_not_usual_and_are_read_back) {
  const std::string yaml =
      "kind: Endpoint\n"
      "name: chat\n"
      "scaling:\n"
      "  replicas_max: 3\n"
      "deployments:\n"
      "  - name: main\n"
      "    model: smol\n"
      "    environment:\n"
      "      - name: A\n"
      "        value: \"1\"\n";
  const Document document = read_documents(yaml, "f").at(0);
  json::object shown = document.kind->complete(document.fields);
  shown["id"] = "chat-abc", shown["etag"] = 5, shown["status"] = json::object{{"state", "Ready"}};
  shown["deployments"].as_array()[0].as_object()["revision"] = 4;
  EXPECT_EQ(to_yaml(to_document(*document.kind, shown)), yaml);
  for (const DocumentKind& kind : document_kinds()) {
    json::object least{{std::string(kind.key), "x"}};
    const json::object exported = to_document(kind, kind.complete(least));
    EXPECT_EQ(to_text(json::value(exported)),
              fmt::format(R"({{"kind":"{}","{}":"x"}})", kind.name, kind.key));
  }
}

}  // namespace
}  // namespace neutrino::cli
