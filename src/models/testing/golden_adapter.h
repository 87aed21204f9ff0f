// Adapters in golden files: config and tensors, whose values are a function of their names as those of a golden case.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "models/testing/golden_case.h"

namespace neutrino::models::testing {

// The adapter's folder as PEFT saves it. `salt`: in front of the tensors' names where values are made of them.
inline void write_adapter(const json::object& adapter, const std::filesystem::path& folder,
                          const std::string& salt = {}) {
  GoldenCase tensors;
  for (const json::value& value : adapter.at("tensors").as_array()) {
    const json::array& fields = value.as_array();
    GoldenTensor tensor{.name = std::string(fields[0].as_string()),
                        .dtype = std::string(fields[1].as_string()),
                        .shape = {},
                        .offset = fields[3].to_number<float>(),
                        .scale = fields[4].to_number<float>(),
                        .salt = salt};
    for (const json::value& size : fields[2].as_array()) tensor.shape.push_back(size.to_number<int64_t>());
    tensors.tensors.push_back(std::move(tensor));
  }
  std::filesystem::create_directories(folder);
  write_checkpoint(tensors, folder);
  std::filesystem::rename(folder / "model.safetensors", folder / "adapter_model.safetensors");
  std::ofstream(folder / "adapter_config.json") << to_text(adapter.at("config"));
}

}  // namespace neutrino::models::testing
