// T-LOAD-01, -02, -03: what is no file of weights is refused by name, and loading runs nothing.
#include "weights/formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "tokenizer/tokenizer.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/no_exec_filter.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

Error refusal(const TemporaryFolder& folder, const std::string& name, std::string_view content) {
  try {
    open_weight_file(folder.put(name, content));
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "it was opened");
}

TEST(Formats, everything_but_weights_is_refused_by_name) {
  const TemporaryFolder folder;
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  const std::tuple<const char*, std::string, const char*> cases[] = {
      {"a.pt", "PK\x03\x04 archive", "zip archive"},
      {"a.gguf", "PK\x03\x04 archive", "zip archive"},
      {"a.nemo", tar, "tar archive"},
      {"a.tgz", "\x1f\x8b\x08", "gzip"},
      {"a.bz2", "BZh9", "bzip2"},
      {"a.xz",
       "\xfd"
       "7zXZ",
       "xz archive"},
      {"a.zst", "\x28\xb5\x2f\xfd", "zstd"},
      {"a.pkl", "\x80\x04\x95", "pickle"},
      {"pytorch_model.bin", "\x80\x02\x8a\x0a", "pickle"},
      {"old.pkl", "(dp0\nS'a'\n", "pickle by its name"},
      {"old.bin", "cos\nsystem\n", "pickle by its name"},
      {"a",
       "\x7f"
       "ELF\x02",
       "ELF"},
      {"a.exe", "MZ\x90", "PE"},
      {"model.llamafile", "MZqFpD='\n", "APE"},
      {"a.macho", "\xcf\xfa\xed\xfe", "Mach-O"},
      {"a.sh", "#!/bin/sh\nrm -rf /\n", "script"},
      {"a.h5", "\x89HDF\r\n", "HDF5"},
      {"a.npy", "\x93NUMPY", "NumPy"},
      {"a.ggml", "lmgg", "before GGUF"},
      {"empty.gguf", "", "empty"},
      {"text.gguf", "hello there", "68 65 6c 6c"},
      {"short.gguf", "GG", "47 47"},
  };
  for (const auto& [name, content, expected] : cases) {
    const Error error = refusal(folder, name, content);
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << name;
    EXPECT_THAT(error.message(), HasSubstr(expected)) << name;
    EXPECT_THAT(error.message(), HasSubstr("GGUF")) << name << ": the safe format is named";
    EXPECT_THAT(error.message(), HasSubstr(name)) << "the file is named";
  }
}

TEST(Formats, safetensors_need_their_configuration_beside_them) {
  const TemporaryFolder folder;
  const Error error = refusal(folder, "model.safetensors", "\x02\0\0\0\0\0\0\0{}"sv);
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_THAT(error.message(), HasSubstr("config.json"));
}

TEST(Formats, folders_devices_and_missing_files_are_refused) {
  const TemporaryFolder folder;
  EXPECT_THROW(open_weight_file(folder.path()), Error);
  EXPECT_THROW(open_weight_file("/dev/zero"), Error);
  EXPECT_THROW(open_weight_file(folder.path() / "none.gguf"), Error);
}

TEST(Formats, a_link_is_followed_only_where_it_may_be) {
  const TemporaryFolder folder;
  const auto path = folder.put("model.gguf", serialise(testing::tiny_llama()));
  fs::create_symlink(path, folder.path() / "link.gguf");
  EXPECT_NO_THROW(open_weight_file(folder.path() / "link.gguf", Links::follow));
  EXPECT_THROW(open_weight_file(folder.path() / "link.gguf", Links::refuse), Error);
}

// T-LOAD-01: opening a model, its vocabulary and its tokenizer under a filter that kills at the first execve, fork or socket.
int run_filtered(void (*action)(const fs::path&), const fs::path& path) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!testing::forbid_execution()) ::_exit(3);
    try {
      action(path);
    } catch (const std::exception&) {
      ::_exit(4);
    }
    ::_exit(0);
  }
  int status = 0;
  check(::waitpid(pid, &status, 0) == pid, "cannot wait for a child");
  return status;
}

TEST(Formats, loading_runs_no_program_and_opens_no_socket) {
  const TemporaryFolder folder;
  const auto path = folder.put("model.gguf", serialise(testing::tiny_llama()));
  const int status = run_filtered(
      [](const fs::path& file) {
        const auto weights = open_weight_file(file);
        testing::read_everything(*weights);
        tokenizer::make_tokenizer(weights->vocabulary());
      },
      path);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Formats, a_loader_that_did_would_be_killed) {
  void (*const forbidden[])(const fs::path&) = {
      [](const fs::path&) { ::execl("/bin/true", "true", nullptr); },
      [](const fs::path&) { ::syscall(SYS_fork); },
      [](const fs::path&) { ::syscall(SYS_socket, 2, 1, 0); },
  };
  for (const auto action : forbidden) {
    const int status = run_filtered(action, "");
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << status;
  }
}

}  // namespace
}  // namespace neutrino::weights
