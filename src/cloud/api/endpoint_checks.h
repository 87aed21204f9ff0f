// What an endpoint may be: every field of it, and what it names.
#pragma once

#include "cloud/schema.h"
#include "store/transaction.h"

namespace neutrino::cloud {

// By itself. Throws Error{invalid_argument, param: the field's path}.
void check_endpoint_fields(const Endpoint& endpoint);

// Shapes and secrets are there, and a replica has the memory that its model needs. Throws Error{invalid_argument, param}.
void check_endpoint_references(const Tables& tables, store::Transaction& transaction,
                               const Endpoint& endpoint);

}  // namespace neutrino::cloud
