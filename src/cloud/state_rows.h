// The reconciler's rows in the database.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cloud/reconciler.h"
#include "cloud/schema.h"
#include "store/database.h"

namespace neutrino::cloud {

class StoredState final : public StateRows {
 public:
  StoredState(store::Database& database, const Tables& tables) : database_(database), tables_(tables) {}

  ClusterState load() const;
  void commit(const Changes& changes) override;

  // Deployments as they are wanted from now on, and those that are gone, with what to tell about it. All or nothing.
  void set(std::vector<Deployment> deployments, const std::vector<std::string>& gone,
           const std::vector<Event>& events);

  // Commits so far that changed a row; compare to know whether something happened.
  int64_t commits() const { return commits_; }

 private:
  store::Database& database_;
  const Tables& tables_;
  int64_t commits_ = 0;
};

// Writes an event, under its deployment's endpoint and workspace; one that repeats its endpoint's last event is counted there.
void write_event(store::Transaction& transaction, const Tables& tables, const Event& event);
void write_event(store::Transaction& transaction, const Tables& tables, EventRow event);

// All rows of a table that `query` names, page by page.
template <typename T>
std::vector<T> list_all(store::Transaction& transaction, const store::Table<T>& table,
                        store::ListQuery query = {}) {
  std::vector<T> all;
  query.limit = limits::kStorePageRows;
  do {
    store::Page<T> page = table.list(transaction, query);
    std::ranges::move(page.rows, std::back_inserter(all));
    query.after = page.next;
  } while (!query.after.empty());
  return all;
}

}  // namespace neutrino::cloud
