// Makes hostile checkpoints out of good ones, field by field: the header of a safetensors file, its tensors, the configuration
// beside it, the index over several files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/testing/json_mutator.h"
#include "weights/testing/safetensors_writer.h"
#include "weights/testing/tiny_checkpoint.h"

namespace neutrino::weights::testing {

// A folder's files: config.json, model.safetensors or shards under an index.
struct CheckpointImage {
  json::object config;
  std::vector<StImage> shards;  // one: model.safetensors, without an index

  std::string shard_file(size_t i) const {
    return shards.size() == 1 ? "model.safetensors"
                              : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  json::object index() const {
    json::object map;
    for (size_t i = 0; i < shards.size(); ++i)
      for (const StImageTensor& tensor : shards[i].tensors) map[tensor.name] = shard_file(i);
    return {{"metadata", json::object{{"total_size", 1}}}, {"weight_map", map}};
  }
};

class SafetensorsMutator {
 public:
  explicit SafetensorsMutator(Random& random) : random_(random), json_(random) {}

  // 1-2 changes to a copy of `image`, written out.
  std::string mutate(StImage image) {
    change(image);
    if (random_.chance(0.3)) change(image);
    std::string file = serialise(image);
    if (random_.chance(0.05))
      file.resize(static_cast<size_t>(random_.below(static_cast<int64_t>(file.size()))));
    return file;
  }

  void change(StImage& image) {
    if (image.tensors.empty()) return;
    const int64_t percent = random_.below(100);
    if (percent < 55)
      change_tensor(image);
    else if (percent < 75)
      change_entry(image);
    else if (percent < 85)
      change_header(image);
    else if (percent < 90)
      image.metadata = random_.chance(0.5) ? R"({"format":1})" : "[]";
    else
      image.tail = std::string(static_cast<size_t>(random_.below(20)), 't');
  }

 private:
  StImageTensor& pick(StImage& image) {
    return image.tensors[static_cast<size_t>(random_.below(static_cast<int64_t>(image.tensors.size())))];
  }

  int64_t odd_number() {
    static constexpr int64_t kNumbers[] = {0,
                                           1,
                                           2,
                                           3,
                                           8,
                                           15,
                                           17,
                                           32,
                                           255,
                                           65537,
                                           INT32_MAX,
                                           int64_t{1} << 32,
                                           (int64_t{1} << 42) + 1,
                                           int64_t{1} << 61,
                                           INT64_MAX};
    return kNumbers[random_.below(15)];
  }

  void change_tensor(StImage& image) {
    static constexpr const char* kTypes[] = {"F32",  "F16",  "BF16",    "F64",     "I8",
                                             "U8",   "I16",  "I32",     "F8_E4M3", "F4",
                                             "BOOL", "F128", "F8_E5M2", "C64",     "F6_E2M3"};
    StImageTensor& tensor = pick(image);
    switch (random_.below(9)) {
      case 0: tensor.dtype = kTypes[random_.below(15)]; return;
      case 1:
        if (!tensor.shape.empty())
          tensor.shape[static_cast<size_t>(random_.below(static_cast<int64_t>(tensor.shape.size())))] =
              odd_number();
        return;
      case 2: tensor.shape.push_back(odd_number()); return;
      case 3: std::reverse(tensor.shape.begin(), tensor.shape.end()); return;
      case 4: tensor.name = pick(image).name; return;
      case 5: tensor.name += random_.chance(0.5) ? "_scale" : ".qweight"; return;
      case 6: tensor.offsets = fmt::format("[{},{}]", odd_number(), odd_number()); return;
      case 7: image.tensors.erase(image.tensors.begin() + (&tensor - image.tensors.data())); return;
      default:
        if (!tensor.data.empty())
          tensor.data[static_cast<size_t>(random_.below(static_cast<int64_t>(tensor.data.size())))] ^= '\x80';
        return;
    }
  }

  // Any change to what the header says of one tensor.
  void change_entry(StImage& image) {
    StImageTensor& tensor = pick(image);
    json::value entry = json::object{{"dtype", tensor.dtype},
                                     {"shape", json::array(tensor.shape.begin(), tensor.shape.end())},
                                     {"data_offsets", json::array{0, tensor.data.size()}}};
    json_.change(entry);
    tensor.entry = to_text(entry);
  }

  void change_header(StImage& image) {
    if (random_.chance(0.5))
      image.header_length = random_.chance(0.5) ? static_cast<uint64_t>(odd_number()) : ~uint64_t{0} - 7;
    else
      image.header = json_.change_text(header_json(image));
  }

  Random& random_;
  JsonMutator json_;
};

}  // namespace neutrino::weights::testing
