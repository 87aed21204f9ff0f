// A table of rows as a collection of the API: list, create, get, replace, merge, delete.
//
//   const Collection<Shape> shapes{.path = "/api/v1/shapes",
//                                  .item_path = "/api/v1/shapes/{id}",
//                                  .noun = "shape",
//                                  .rows = services.tables.shapes,
//                                  .write = Needs::platform,
//                                  .check = check_shape};
//   std::vector<ApiRoute> routes = collection_routes(shapes);
//
// What follows from the struct's fields(): which members a body may have, what cannot change, filters, order and selection of a list,
// the schema in /openapi.json. Where the struct has a field `workspace`, nothing of another's workspace is seen or touched: 404. An object
// is called by its key or, where that is an id, by its name.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cloud/api/api.h"
#include "cloud/api/object_json.h"
#include "cloud/api/query.h"
#include "cloud/api/struct_schema.h"
#include "cloud/limits.h"
#include "net/url.h"

namespace neutrino::cloud {

// Which of the routes there are, beside the list.
struct Verbs {
  bool get = true, create = true, put = true, patch = true, erase = true;
};
inline constexpr Verbs kReadOnly{.create = false, .put = false, .patch = false, .erase = false};

template <HasFields T>
struct Collection {
  std::string_view path, item_path;
  std::string_view noun;
  const store::Table<T>& rows;
  Needs read = Needs::viewer;
  Needs write = Needs::user;
  Verbs verbs = {};
  std::string_view name_field = "name";  // by which people call it, beside the key
  json::object computed = {};  // JSON Schemas of what `show` adds; a body may bring these back, to no effect

  // A row that is about to be written, its body read: completes it, and throws what is wrong with it. `before`: null for a new one.
  std::function<void(ApiCall&, store::Transaction&, T& row, const T* before)> check = {};
  std::function<void(ApiCall&, store::Transaction&, const T& row)> written = {};  // in the same transaction
  std::function<void(ApiCall&, store::Transaction&, const T& row)> before_erase = {};
  std::function<std::string(const T&)> make_id = {};  // of a new row; else the noun and random characters
  // Of the rows that the caller's workspace has, those that this caller may see: more conditions, in a list and for one.
  std::function<std::vector<store::Filter>(ApiCall&, store::Transaction&)> narrow = {};
  std::function<bool(ApiCall&, store::Transaction&, const T&)> sees = {};
  // What objects show, a page at a time: adds to them or takes away.
  std::function<void(ApiCall&, store::Transaction&, const std::vector<T>&, std::vector<json::object>&)> show =
      {};
  // The answer to a creation may say more than the row holds.
  std::function<void(ApiCall&, const T&, json::object&)> created = {};
};

template <HasFields T>
std::vector<ApiRoute> collection_routes(const Collection<T>& collection);

// ---- the same by pieces, for subjects that need something in between

// The row that the path's {id} means. Throws Error{not_found}.
template <HasFields T>
T find_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction);

template <HasFields T>
ApiAnswer show_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction,
                   const T& row);

// Checks and writes what has become of `before`; nothing is written if nothing changed. If-Match was checked.
template <HasFields T>
ApiAnswer write_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction, T row,
                    const T& before);

template <HasFields T>
ApiAnswer list_rows(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction);
template <HasFields T>
ApiAnswer create_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction);
template <HasFields T>
ApiAnswer put_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction);
template <HasFields T>
ApiAnswer patch_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction);
template <HasFields T>
ApiAnswer erase_row(const Collection<T>& collection, ApiCall& call, store::Transaction& transaction);

}  // namespace neutrino::cloud

#include "cloud/api/collection_rows.h"
