// Calls that are JSON: {"name": "f", "arguments": {...}}. What several syntaxes have in common.
#pragma once

#include <string>

#include "chat/answer_reading.h"

namespace neutrino::chat {

inline constexpr size_t kFunctionNameBytes = 256;

// One object: its keys in any order; "parameters" is "arguments", and no arguments are {}. An "id" gives way to ours,
// a "type" must be "function".
Reader<> read_json_call(Reading& r);

// "[" calls, separated by commas, "]".
Reader<> read_json_calls(Reading& r);

// A JSON object as the arguments of the open call.
Reader<> read_json_arguments(Reading& r);

// A JSON string, decoded.
Reader<std::string> read_json_string(Reading& r);

// The id that the model gave a call: letters and digits. Ours takes its place.
void check_call_id(std::string_view id);

// The end of one or more calls: `text` after white space. The end of the answer is as good.
Reader<> read_close(Reading& r, std::string_view text);

// JSON text of a string.
std::string json_text(std::string_view text);

bool contains(std::string_view text, std::string_view part);

}  // namespace neutrino::chat
