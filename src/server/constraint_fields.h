// What a body asks of the form of the answer, under all the names that clients use for it.
//
// OpenAI's response_format, vLLM's structured_outputs and guided_*, NIM's nvext, SGLang's and llama-server's regex, ebnf, grammar
// and json_schema all end in one text::GrammarSpec. The same constraint may come twice; two different ones exclude each other.
#pragma once

#include <optional>

#include "base/json.h"
#include "text/constraints.h"

namespace neutrino::server {

// Of a body that net::parse_body() has checked; nullopt: the answer is free. `strict` changes nothing: a schema that is given is
// enforced. Throws Error{invalid_argument} with the path of the field at fault.
std::optional<text::GrammarSpec> read_constraint(const json::object& body);

}  // namespace neutrino::server
