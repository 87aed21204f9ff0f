// A subcommand: one file in this folder with one function, and one line in main.cpp's table.
#pragma once

namespace neutrino::cli {

struct Command {
  const char* name;
  const char* summary;  // one line for `neutrino --help`; nullptr: not for people
  int (*run)(int argc,
             char** argv);  // argv[0] is the subcommand's name; returns the exit code or throws Error
};

int run_bench(int argc, char** argv);
int run_chat(int argc, char** argv);
int run_doctor(int argc, char** argv);
int run_eval(int argc, char** argv);
int run_keeper(int argc, char** argv);
int run_model(int argc, char** argv);
int run_run(int argc, char** argv);
int run_serve(int argc, char** argv);
int run_tokenize(int argc, char** argv);

}  // namespace neutrino::cli
