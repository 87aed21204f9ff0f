// Backups that are taken while the database is in use, and their restore.
//
// A backup is one SQLite file, whichever engine it comes from, so that one from SQLite may be restored into PostgreSQL and the other way
// round. It holds the rows of every table at one moment (a reader's snapshot, which hinders no writer), and of each table how
// many rows it has and the SHA-256 of them, which a restore checks. It appears under its name when it is whole.
//
// A restore makes the tables anew with the migrations that the backup had, fills them, and applies those that came later, all in one
// transaction: after a kill at any moment the target is as it was, or restored. It holds secrets and keys just as the database does.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "store/database.h"
#include "store/migrations.h"

namespace neutrino::store {

struct BackupSummary {
  int64_t tables = 0, rows = 0, bytes = 0;
  int64_t seq = 0;    // of the change log, at that moment
  int64_t at_ms = 0;  // Unix time
};

using BackupProgress = std::function<void(const std::string& table, int64_t rows)>;

// Writes `path`, which must not exist (Error{already_exists}). Errors of the database and the disk as they come.
BackupSummary back_up(Database& database, const std::filesystem::path& path,
                      const BackupProgress& progress = {});

// Reads all of it and compares it with its own sums. Throws Error{data_loss} that names what is damaged, or Error{failed_precondition}
// for a file that is no backup or of a newer neutrino.
BackupSummary check_backup(const std::filesystem::path& path);

// A component's migrations, as migrate() takes them.
struct Component {
  std::string_view name;
  std::span<const Migration> migrations;
};

enum class IfNotEmpty { refuse, replace };

// Restores into `database`, whose own tables are all that it may hold (else Error{failed_precondition}, unless `replace`: then
// everything in it is dropped). `components`: all but this folder's own. Watchers of the change log are told to list again.
BackupSummary restore(Database& database, const std::filesystem::path& path,
                      std::span<const Component> components, IfNotEmpty if_not_empty,
                      const BackupProgress& progress = {});

}  // namespace neutrino::store
