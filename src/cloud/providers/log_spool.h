// A replica's output on disk: files of a bounded size, a bounded number of them, one position that only grows.
//
// A file is named by the position of its first byte, so that a cursor is a position and needs no index: whoever follows reads the
// file that holds it and goes on in the next. What cannot be written (a full disk) is left out and counted, and a line says so as
// soon as something can be written again; the writer never stops the program whose output it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/file.h"
#include "cloud/provider.h"

namespace neutrino::cloud {

class LogSpool {
 public:
  // Goes on behind what the folder holds; makes it if need be. Does not throw: a folder that cannot be written loses its bytes.
  LogSpool(std::filesystem::path folder, int64_t file_bytes, int64_t files);

  void append(std::string_view text);
  int64_t end() const { return end_; }            // position behind the last byte written
  int64_t left_out() const { return left_out_; }  // bytes that no line tells of yet

 private:
  bool write(std::string_view text);
  bool next_file();
  void remove_old();
  std::filesystem::path folder_;
  int64_t file_bytes_, files_;
  FileDescriptor file_;
  int64_t file_size_ = 0, end_ = 0, left_out_ = 0;
  int error_ = 0;  // errno of what was left out last
};

// As Provider::read_log(). A folder without files is an empty log.
LogChunk read_log_spool(const std::filesystem::path& folder, int64_t cursor, int64_t bytes_max);

}  // namespace neutrino::cloud
