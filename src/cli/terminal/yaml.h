// YAML as JSON, and where each value stood, so that an error about a field can say its line.
//
// Plain scalars are read as YAML 1.2 means them (`yes` and `012` are texts, `true`, `null` and `12` are not). Keys are texts and come
// once; anchors may be used, within limits on depth and on the number of values that come out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace neutrino::cli {

struct Position {
  int64_t line = 0, column = 0;  // from 1
};

struct YamlDocument {
  json::value value;
  std::map<std::string, Position>
      positions;  // by path, as errors of the API name it: "deployments[0].weight"; "" is the whole

  // Of the path, or of the nearest thing around it that is there.
  Position position_of(std::string_view path) const;
};

// The documents of a text, empty ones left out. Throws Error{invalid_argument} as "NAME:LINE:COLUMN: what is wrong".
std::vector<YamlDocument> parse_yaml(const std::string& text, std::string_view name);

// A document that parse_yaml() reads back as the same value, in block style.
std::string to_yaml(const json::value& value);

// "apply.yaml:3:5: "
std::string place_text(std::string_view name, const Position& position);

}  // namespace neutrino::cli
