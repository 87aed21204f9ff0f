// Whole tables from one connection to another, page by page: what backup and restore are made of.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "store/transaction.h"

namespace neutrino::store {

// Calls `take` with pages of all rows of a table in the order of its key. Throws Error{failed_precondition} for a table without a key
// or with a name or type that is not one of ours.
void for_each_page(Transaction& from, const TableShape& table,
                   const std::function<void(std::vector<Row>&& rows)>& take);

// "CREATE TABLE ..." for a table of this shape.
std::string definition_of(const TableShape& table);

// Inserts rows, many at a time.
void insert_rows(Transaction& to, const TableShape& table, const std::vector<Row>& rows);

// The sum of a table's rows, the same for the same values in either engine.
class RowSum {
 public:
  void add(const Row& row);
  int64_t rows() const { return rows_; }
  std::string finish() { return to_hex(sum_.finish()); }

 private:
  Sha256 sum_;
  int64_t rows_ = 0;
};

}  // namespace neutrino::store
