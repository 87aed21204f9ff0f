// An adapter (LoRA) that is served beside the model's own weights, under a model name of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace neutrino::chat {

// Whoever holds one may generate with it, also after it was unloaded: a request keeps its adapter until it is done.
class Adapter {
 public:
  virtual ~Adapter() = default;

  std::string name;    // the model name
  std::string file;    // name of its folder or file, without the way there
  std::string digest;  // SHA-256 of its contents, in hex
  int64_t rank = 0;    // the largest
  int64_t parameters = 0;
  int64_t bytes = 0;  // of memory
  int64_t created_unix = 0;

  // Its generations that wait in the queue and that run, kept by the engine. Any thread.
  int64_t waiting() const { return waiting_; }
  int64_t running() const { return running_; }
  void add_use(int64_t waiting, int64_t running) const { waiting_ += waiting, running_ += running; }

 private:
  mutable std::atomic<int64_t> waiting_{0}, running_{0};
};
using AdapterPtr = std::shared_ptr<const Adapter>;

enum class IfLoaded : uint8_t { refuse, replace };

}  // namespace neutrino::chat
