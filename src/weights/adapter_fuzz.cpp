// Adapters: whatever their files say, the answer is an Error whose check has a name, or updates that fit the base and a model that
// can be read.
//
// The first byte: bit 0 says GGUF, else a PEFT folder: adapter_config.json up to the first zero byte, and behind it
// adapter_model.safetensors; bit 1 asks for the merged model too. The files are written to $TMPDIR, which had better be memory.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/testing/fuzz.h"
#include "weights/adapter.h"
#include "weights/testing/adapter_images.h"
#include "weights/testing/adapter_mutator.h"
#include "weights/testing/gguf_mutator.h"
#include "weights/testing/temporary_folder.h"

using namespace neutrino;
using namespace neutrino::weights;
namespace wt = neutrino::weights::testing;

namespace {

struct Workplace {
  wt::TemporaryFolder folder;
  std::unique_ptr<WeightFile> base = wt::write_adapter_base(folder.path() / "base");
  std::filesystem::path peft = folder.path() / "adapter", gguf = folder.path() / "adapter.gguf";
  Workplace() { std::filesystem::create_directories(peft); }

  // The path of the adapter, which stands there until the next call.
  const std::filesystem::path& put(bool is_gguf, std::string_view bytes) const {
    if (is_gguf) {
      wt::write_quickly(gguf, bytes);
      return gguf;
    }
    const auto [config, tensors] = wt::split_peft(bytes);
    wt::write_quickly(peft / "adapter_config.json", config);
    wt::write_quickly(peft / "adapter_model.safetensors", tensors);
    return peft;
  }
};

void check_update(const WeightFile& base, const AdapterUpdate& update) {
  const TensorEntry* tensor = base.find(update.tensor);
  check(tensor && tensor->shape == std::vector{update.rows, update.columns}, "an update of no tensor");
  check(update.rank >= 1 && update.rank <= wt::kAdapterTestLimits.rank_max, "a rank over its limit");
  check(std::ssize(update.a) == update.rank * update.columns, "A of another shape");
  check(std::ssize(update.b) == update.rows * update.rank, "B of another shape");
  const auto finite = [](float value) { return std::isfinite(value); };
  check(std::ranges::all_of(update.a, finite) && std::ranges::all_of(update.b, finite),
        "a value that is none");
}

void serve(const WeightFile& base, const std::filesystem::path& path) {
  const AdapterUpdates updates = read_adapter_updates(base, path, wt::kAdapterTestLimits);
  check(!updates.list.empty(), "updates of nothing");
  int64_t parameters = 0;
  for (const AdapterUpdate& update : updates.list) {
    check_update(base, update);
    parameters += std::ssize(update.a) + std::ssize(update.b);
  }
  check(parameters == updates.parameters, "parameters miscounted");
}

void merge(const WeightFile& base, const std::filesystem::path& path) {
  const auto merged = merge_adapter(base, path, {});
  for (const TensorEntry& tensor : merged->tensors()) {
    const TensorEntry* old = base.find(tensor.name);
    check(old && old->shape == tensor.shape, "a merged tensor of another shape");
    if (tensor.data == nullptr || old->data == nullptr) merged->read(tensor);
  }
}

template <typename Use>
void expect_named_errors(Use use) {
  try {
    use();
  } catch (const Error& error) {
    check(!error.reason().empty(), error.message());
  }
}

}  // namespace

NEUTRINO_FUZZ(adapter) {
  static const Workplace place;
  const unsigned choice = take_byte(data);
  const std::filesystem::path& path = place.put(choice & 1, as_text(data));
  expect_named_errors([&] { serve(*place.base, path); });
  if (choice & 2) expect_named_errors([&] { merge(*place.base, path); });
}

#if defined(NEUTRINO_LIBFUZZER)
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

// Half of the mutations change fields of the structure, the other half bytes.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto mutated =
      seed % 2 && size > 1 ? wt::mutate_adapter(input[0] & 1, input.substr(1), seed / 2) : std::nullopt;
  if (!mutated) return LLVMFuzzerMutate(data, size, size_max);
  const size_t taken = std::min(mutated->size(), size_max - 1);
  std::memcpy(data + 1, mutated->data(), taken);
  return taken + 1;
}
#endif
