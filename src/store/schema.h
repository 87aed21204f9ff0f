// This folder's own tables, as migrations: the change log, idempotency keys, and the numbers of the writers' groups.
#pragma once

#include <span>
#include <string_view>

#include "store/migrations.h"

namespace neutrino::store {

inline constexpr std::string_view kStoreComponent = "store";
std::span<const Migration> store_migrations();

}  // namespace neutrino::store
