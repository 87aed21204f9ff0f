// Adapters that lie, by the thousand: each is refused with an Error that says by which check, or can be served and merged.
#include <gtest/gtest.h>

#include "base/testing/hostile_report.h"
#include "weights/adapter.h"
#include "weights/testing/adapter_images.h"
#include "weights/testing/checkpoint_mutator.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::weights {
namespace {

using namespace testing;  // NOLINT: neutrino::weights::testing

TEST(AdapterHostile, thousands_of_mutated_folders_are_refused_or_can_be_served) {
  const TemporaryFolder folder;
  const auto base = write_adapter_base(folder.path() / "base");
  const std::filesystem::path path = folder.path() / "adapter";
  std::filesystem::create_directories(path);
  Random random(21);
  SafetensorsMutator safetensors(random);
  JsonMutator json(random);
  HostileReport report;
  while (report.files < budget(1000, 50'000)) {
    PeftImage image = peft_image(report.files % 60);
    json::value config = image.config;
    std::optional<std::string> config_text;
    const int64_t percent = random.below(100);
    if (percent < 45) json.change(config);
    if (percent >= 40 && percent < 85) safetensors.change(image.tensors);
    if (percent >= 96) config_text = json.change_text(to_text(config));
    write_quickly(path / "adapter_config.json", config_text.value_or(to_text(config)));
    write_quickly(path / "adapter_model.safetensors", serialise(image.tensors));
    report.count({"truncated", "header_length", "header_start", "invalid_json"}, [&] {
      if (report.files % 4 == 0) merge_adapter(*base, path, {});
      const AdapterUpdates updates = read_adapter_updates(*base, path, kAdapterTestLimits);
      EXPECT_LE(updates.rank, kAdapterTestLimits.rank_max);
      EXPECT_LE(updates.parameters * 4, 4 * kAdapterTestLimits.bytes_max);
    });
  }
  report.expect_thorough(12);
}

TEST(AdapterHostile, thousands_of_mutated_gguf_files_are_refused_or_can_be_served) {
  const TemporaryFolder folder;
  const auto base = write_adapter_base(folder.path() / "base");
  const std::filesystem::path path = folder.path() / "adapter.gguf";
  GgufMutator mutator(22);
  HostileReport report;
  while (report.files < budget(1000, 50'000)) {
    write_quickly(path, mutator.mutate(gguf_adapter_image(report.files)));
    report.count({"magic", "version", "count_limit", "count_room", "truncated", "no_tensors", "format"}, [&] {
      read_adapter_updates(*base, path, kAdapterTestLimits);
      if (report.files % 4 == 0) merge_adapter(*base, path, {});
    });
  }
  report.expect_thorough(12);
}

}  // namespace
}  // namespace neutrino::weights
