// How an endpoint, its deployments and replicas look in a terminal.
#pragma once

#include <vector>

#include "cli/cloud_command.h"

namespace neutrino::cli {

std::vector<ListColumn> endpoint_columns();
std::vector<ListColumn> deployment_columns();  // of an endpoint's status
std::vector<ListColumn> replica_columns();
std::vector<ListColumn> revision_columns();

void print_endpoint(const Cloud& cloud, const json::value& endpoint);
// Below it, with a line between; nothing where there is none.
void print_table(const Cloud& cloud, const std::vector<ListColumn>& columns, const json::value& items);

}  // namespace neutrino::cli
