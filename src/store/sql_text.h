// Small translations of SQL text from what we write to what PostgreSQL reads. Quoted texts and names, and comments, are left as
// they are.
#pragma once

#include <string>
#include <string_view>

namespace neutrino::store {

// "a = ? AND b = ?" becomes "a = $1 AND b = $2".
std::string number_placeholders(std::string_view sql);

// Each word TEXT becomes TEXT COLLATE "C", so that texts are ordered by their bytes as in SQLite, whatever the server's language.
std::string order_texts_by_bytes(std::string_view sql);

}  // namespace neutrino::store
