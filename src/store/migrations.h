// How a database gets the tables that this binary works with.
//
// A component (this folder, the cloud) lists its migrations; the database remembers which it has, by number, name and the hash of
// the text. Each is applied in one transaction with that note, so that a kill at any step leaves it applied or not, and the next
// start goes on from there. A migration that has been released is never edited: the next one changes what it made.
//
// The text is SQL that SQLite and PostgreSQL share: columns are BIGINT, DOUBLE PRECISION or TEXT, every table has a
// primary key, and the word TEXT stands for nothing else.
#pragma once

#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "store/transaction.h"

namespace neutrino::store {

class Database;

struct Migration {
  int64_t number;  // 1, 2, 3 ...
  std::string_view name;
  std::string_view sql;
};

enum class MigrationStep { begins, is_applied, is_committed };
using MigrationProgress = std::function<void(const Migration& migration, MigrationStep step)>;

// Applies what the database lacks, in order. Throws Error{failed_precondition} that says which side is newer if the database has a
// migration that this binary does not know, or one with another text. Several processes may do it at once.
void migrate(Database& database, std::string_view component, std::span<const Migration> migrations,
             const MigrationProgress& progress = {});

// The number of the last migration that was applied; 0 before the first.
int64_t schema_version(Transaction& transaction, std::string_view component);

// The parts of migrate(), inside a transaction; a restore has one for all.
bool has_table(Transaction& transaction, std::string_view name);
void check_schema(Transaction& transaction, std::string_view component,
                  std::span<const Migration> migrations);
void apply_migration(Transaction& transaction, std::string_view component, const Migration& migration);

}  // namespace neutrino::store
