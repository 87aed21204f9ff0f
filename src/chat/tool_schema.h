// The parameters of a tool as rules of a grammar, in the ways in which syntaxes write arguments.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/json.h"
#include "chat/lark.h"

namespace neutrino::chat {

// The schema of the arguments of `function` (a tool's "function"): of an object, always. Throws Error for one that is of
// something else; `path` is where the function stands.
json::object parameters_schema(const json::object& function, const std::string& path);

// How syntaxes write arguments that are no JSON object: each parameter between tags, or with a keyword.
struct ParameterForm {
  std::string_view before_key;    // <parameter=
  std::string_view before_value;  // >
  std::string_view after_value;   // </parameter>
  std::string_view between;       // parameters
  bool text_values = false;       // strings stand as they are, not in quotes
};

// Equal texts of a grammar are one rule, for the lexer looks at each of them: the texts' regular expressions and their rules.
using SharedTexts = std::map<std::string, std::string>;

// A rule `name` (and others whose names begin with it) for the arguments, in the order of the schema; what is not required may
// be left out. `path`: of the schema. Throws Error{invalid_argument, reason "unsupported_schema_keyword"} naming what
// cannot be written down so.
std::string parameter_rules(const std::string& name, const json::object& schema, const ParameterForm& form,
                            const SpecialTokens& special, const std::string& path, SharedTexts& texts);

// "%json {...}".
std::string json_rule(json::object schema);

}  // namespace neutrino::chat
