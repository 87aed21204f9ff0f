// One connection to a database: what SQLite and PostgreSQL have to offer to the rest of this folder, and nothing more.
//
// Statements are in the SQL that both understand, with `?` for parameters: BIGINT, DOUBLE PRECISION and TEXT columns,
// INSERT ... ON CONFLICT ... DO UPDATE, RETURNING, row values. Used by one thread at a time.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "store/value.h"

namespace neutrino::store {

// full: what is acknowledged has been forced to the disk. none: the machine decides when, and a power cut or a killed server
// loses acknowledged writes; for tests and simulations.
enum class Durability { full, none };

// The connection is of no use any more, and the transaction that it was in is undone or, if it was being committed, in doubt.
class ConnectionLost : public Error {
 public:
  explicit ConnectionLost(std::string message) : Error(ErrorCode::unavailable, std::move(message)) {}
};

enum class Access { read_only, read_write };

struct Column {
  std::string name;
  std::string type;  // BIGINT, DOUBLE PRECISION or TEXT
  int64_t key = 0;   // place in the primary key from 1; 0: not in it
};

struct TableShape {
  std::string name;
  std::vector<Column> columns;
};

class Connection {
 public:
  virtual ~Connection() = default;

  // Runs one statement. Throws ConnectionLost; Error{already_exists} for a key that is there, failed_precondition for another
  // constraint, resource_exhausted for a full disk, unavailable for a lock that another process holds, data_loss for a
  // damaged file, internal for a statement that is wrong.
  virtual Rows run(const std::string& sql, std::span<const Value> parameters) = 0;

  // Runs statements that define tables, without parameters.
  virtual void define(const std::string& sql) = 0;

  // Starts a transaction: for a writer one that excludes all other writers, whatever process they are in, and so
  // sees all that they did; for a reader one that sees a single moment.
  virtual void begin() = 0;
  virtual void commit() = 0;
  virtual void roll_back() noexcept = 0;
  virtual bool in_transaction() const = 0;  // false after an error that ended the transaction

  // A commit's answer may be lost on the way, so the writer writes its number with the group and asks for it afterwards.
  virtual bool commits_can_be_in_doubt() const = 0;

  virtual std::vector<TableShape> tables() = 0;  // of the product, in the order in which they were made
};

struct ConnectionOptions {
  std::string url;  // a file's path, or postgres://… or postgresql://… as libpq takes it
  Access access = Access::read_write;
  Durability durability = Durability::full;
  std::chrono::milliseconds statement_timeout{30'000};  // PostgreSQL: a silent server counts as lost
  std::chrono::milliseconds busy_timeout{10'000};  // how long another process may hold the lock on writing
};

bool is_postgres(const std::string& url);
std::string shown_url(const std::string& url);  // without a password, for messages

// Throws ConnectionLost if there is no server, Error for a file that cannot be opened or is not a database of ours.
std::unique_ptr<Connection> connect(const ConnectionOptions& options);
std::unique_ptr<Connection> connect_sqlite(const ConnectionOptions& options);
std::unique_ptr<Connection> connect_postgres(const ConnectionOptions& options);

}  // namespace neutrino::store
