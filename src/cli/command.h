// A subcommand: one file in this folder with one function, and one line in main.cpp's table.
#pragma once

namespace neutrino::cli {

struct Command {
  const char* name;
  const char* summary;  // one line for `neutrino --help`; nullptr: not for people
  int (*run)(int argc,
             char** argv);  // argv[0] is the subcommand's name; returns the exit code or throws Error
};

int run_apply(int argc, char** argv);
int run_backup(int argc, char** argv);
int run_bench(int argc, char** argv);
int run_budget(int argc, char** argv);
int run_chat(int argc, char** argv);
int run_completion(int argc, char** argv);
int run_control_plane(int argc, char** argv);
int run_doctor(int argc, char** argv);
int run_down(int argc, char** argv);
int run_endpoint(int argc, char** argv);
int run_eval(int argc, char** argv);
int run_events(int argc, char** argv);
int run_export(int argc, char** argv);
int run_gateway(int argc, char** argv);
int run_keeper(int argc, char** argv);
int run_key(int argc, char** argv);
int run_login(int argc, char** argv);
int run_logout(int argc, char** argv);
int run_logs(int argc, char** argv);
int run_member(int argc, char** argv);
int run_model(int argc, char** argv);
int run_node(int argc, char** argv);
int run_restore(int argc, char** argv);
int run_run(int argc, char** argv);
int run_secret(int argc, char** argv);
int run_serve(int argc, char** argv);
int run_tokenize(int argc, char** argv);
int run_up(int argc, char** argv);
int run_usage(int argc, char** argv);
int run_whoami(int argc, char** argv);
int run_workspace(int argc, char** argv);

}  // namespace neutrino::cli
