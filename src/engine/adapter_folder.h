// A folder whose adapters are served: each PEFT folder or GGUF file in it, under its own name (without .gguf). What appears is
// loaded, what changes is loaded anew, what goes away is unloaded; running requests keep what they have.
//
// A folder that is still being copied does not load: it is tried again once its files have changed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "chat/chat_model.h"

namespace neutrino::engine {

class AdapterFolder {
 public:
  // `model` outlives this object. Throws Error where the folder cannot be read.
  AdapterFolder(chat::ChatModel& model, std::filesystem::path folder);
  ~AdapterFolder();

  // Compares the folder with what it had. What cannot be loaded is logged, once for each state of its files.
  void refresh();
  void start(std::chrono::seconds interval);  // refreshes from a thread of its own; once

 private:
  struct Entry {
    std::string state;  // of its files: names, sizes, times
    bool loaded = false;
  };

  void load(const std::string& name, const std::filesystem::path& path, const std::string& state);
  void unload(const std::string& name);

  chat::ChatModel& model_;
  const std::filesystem::path folder_;
  std::mutex refreshing_;                 // guards the one below
  std::map<std::string, Entry> entries_;  // by name
  std::mutex mutex_;                      // guards the one below
  bool stopping_ = false;
  std::condition_variable stop_;
  std::thread thread_;
};

}  // namespace neutrino::engine
