// Rows as CSV (RFC 4180), safe to open in a spreadsheet: a text that a program would take for a formula gets an apostrophe in front.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace neutrino::cloud {

// A line for the names and one for each object, ended by CRLF; what an object lacks is empty, what is nested is JSON.
std::string to_csv(const std::vector<std::string>& names, const json::array& objects);

}  // namespace neutrino::cloud
