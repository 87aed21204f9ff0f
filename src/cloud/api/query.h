// What stands behind '?' in a URL of the API. A name that nobody reads is an error that names it: a misspelt filter must not give all rows.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::cloud {

using Query = std::map<std::string, std::string>;  // decoded

// All functions throw Error{invalid_argument, param: the name}.
Query parse_query(std::string_view text);  // also for a name that is there twice

void allow_only(const Query& query, std::initializer_list<std::string_view> names);
bool query_flag(const Query& query, const std::string& name);         // true or false; absent: false
std::string query_text(const Query& query, const std::string& name);  // absent: empty
int64_t query_integer(const Query& query, const std::string& name, int64_t otherwise, int64_t minimum,
                      int64_t maximum);
std::vector<std::string> query_list(const Query& query, const std::string& name);  // parted by commas

}  // namespace neutrino::cloud
