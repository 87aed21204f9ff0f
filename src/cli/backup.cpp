// neutrino backup FILE and restore FILE: the cloud's database, on the machine that has it.
//
// A backup is taken while the control plane goes on; a restore needs it stopped, which its lock tells.

#include <fcntl.h>

#include <CLI/CLI.hpp>

#include "base/file.h"
#include "base/memory.h"
#include "cli/cloud_command.h"
#include "cli/cloud_home.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/terminal/words.h"
#include "cloud/schema.h"
#include "store/backup.h"

namespace neutrino::cli {
namespace {

struct BackupFlags {
  std::string database = default_database(), file;
  bool as_json = false, replace = false, check = false;
};

bool is_postgres(const std::string& url) {
  return url.starts_with("postgres://") || url.starts_with("postgresql://");
}

json::object to_json(const store::BackupSummary& summary, const std::string& file) {
  return {{"file", file},           {"tables", summary.tables}, {"rows", summary.rows},
          {"bytes", summary.bytes}, {"seq", summary.seq},       {"at_ms", summary.at_ms}};
}

int say_summary(const BackupFlags& flags, const store::BackupSummary& summary, std::string_view what) {
  if (flags.as_json) return print_json(to_json(summary, flags.file)), 0;
  fmt::print("{} {}: {} rows of {} tables, {}, of {} UTC\n", flags.file, what, grouped_text(summary.rows),
             summary.tables, size_text(summary.bytes), clock_text(summary.at_ms));
  return 0;
}

FileDescriptor lock_out_control_plane() {
  const std::filesystem::path path = control_plane_lock();
  std::filesystem::create_directories(path.parent_path());
  FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) throw system_error("open", path);
  if (!try_lock(lock, Lock::exclusive))
    throw make_error(ErrorCode::failed_precondition,
                     "a control plane is running (it holds {}): stop `neutrino up` first", path.string());
  return lock;
}

int back_up_database(const BackupFlags& flags) {
  if (!is_postgres(flags.database) && !std::filesystem::exists(flags.database))
    throw make_error(ErrorCode::not_found, "there is no database {}", flags.database);
  store::Database database({.url = flags.database, .readers = 1});
  return say_summary(flags, store::back_up(database, flags.file), "is a backup");
}

int restore_database(const BackupFlags& flags) {
  if (flags.check) return say_summary(flags, store::check_backup(flags.file), "is whole");
  store::check_backup(flags.file);
  const FileDescriptor lock = lock_out_control_plane();
  store::Database database({.url = flags.database, .readers = 1});
  const store::Component components[] = {{cloud::kCloudComponent, cloud::cloud_migrations()}};
  const auto if_not_empty = flags.replace ? store::IfNotEmpty::replace : store::IfNotEmpty::refuse;
  return say_summary(flags, store::restore(database, flags.file, components, if_not_empty), "is restored");
}

void add_flags(CLI::App& app, BackupFlags& flags) {
  app.add_option("FILE", flags.file, "the backup")->required();
  app.add_option("--database", flags.database, "a path, or postgres://...")
      ->capture_default_str()
      ->envname("NEUTRINO_DATABASE");
  app.add_flag("--json", flags.as_json, "print JSON");
}

}  // namespace

int run_backup(int argc, char** argv) {
  CLI::App app(
      "Write the cloud's database into one file, while it is in use. Secrets stay sealed in it: keep the key "
      "file elsewhere.\n"
      "Example: neutrino backup cloud-2026-11-23.db",
      "neutrino backup");
  BackupFlags flags;
  add_flags(app, flags);
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  return back_up_database(flags);
}

int run_restore(int argc, char** argv) {
  CLI::App app(
      "Make the cloud's database what it was at a backup, into either kind of database. The control plane "
      "must be stopped.\n"
      "Example: neutrino restore cloud-2026-11-23.db",
      "neutrino restore");
  BackupFlags flags;
  add_flags(app, flags);
  app.add_flag("--replace", flags.replace, "drop what the database holds now");
  app.add_flag("--check", flags.check, "only read the backup and compare it with its sums");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  return restore_database(flags);
}

}  // namespace neutrino::cli
