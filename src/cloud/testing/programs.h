// Programs that tests start as processes of their own: they are in the test binary, named by its first argument.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace neutrino::cloud::testing {

std::filesystem::path test_binary();
// The command that runs one of them: {"/…/cloud_test", name}.
std::vector<std::string> program(const std::string& name);

// A minimal replica: `replica PORT [JOURNAL]` notes "id generation pid" in the journal and answers every request with its id.
int run_replica(int argc, char** argv);
// A control plane without the rest: `controller FOLDER KEEPER` makes what runs as FOLDER/desired says, until it is killed. KEEPER is
// the program that its replicas get.
int run_controller(int argc, char** argv);

// A supervisor of two children: `supervisor FOLDER PORT`; notes pids in FOLDER/journal. Its children: `supervised NAME FOLDER`
// answer on the listener NAME with "NAME pid", note SIGTERM in the journal and end 200 ms later.
int run_test_supervisor(int argc, char** argv);
int run_supervised(int argc, char** argv);

// Counts the usage in a journal: `usage-counter DATABASE JOURNAL`.
int run_usage_counter(int argc, char** argv);
// A gateway with a usage journal, on the listening socket 3: `metered-gateway JOURNAL PORT...`, the ports of replicas.
int run_metered_gateway(int argc, char** argv);

}  // namespace neutrino::cloud::testing
