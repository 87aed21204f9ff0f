#include "weights/formats.h"

#include <string_view>

#include "base/limits.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using namespace std::string_view_literals;

struct Magic {
  std::string_view bytes;
  size_t offset;
  std::string_view name;
};

constexpr Magic kMagics[] = {
    {"PK\x03\x04"sv, 0, "a zip archive (as PyTorch's .pt and .bin files are)"},
    {"PK\x05\x06"sv, 0, "a zip archive"},
    {"\x1f\x8b"sv, 0, "a gzip archive"},
    {"BZh"sv, 0, "a bzip2 archive"},
    {"\xfd"
     "7zXZ"sv,
     0, "an xz archive"},
    {"\x28\xb5\x2f\xfd"sv, 0, "a zstd archive"},
    {"7z\xbc\xaf\x27\x1c"sv, 0, "a 7z archive"},
    {"Rar!"sv, 0, "a rar archive"},
    {"ustar"sv, 257, "a tar archive (as NeMo's .nemo files are)"},
    {"\x80\x02"sv, 0, "a Python pickle"},
    {"\x80\x03"sv, 0, "a Python pickle"},
    {"\x80\x04"sv, 0, "a Python pickle"},
    {"\x80\x05"sv, 0, "a Python pickle"},
    {"\x7f"
     "ELF"sv,
     0, "an ELF executable"},
    {"MZ"sv, 0, "an executable (PE, or APE as .llamafile is)"},
    {"APEDBG='"sv, 0, "an APE executable"},
    {"jartsr='"sv, 0, "an APE executable"},
    {"\xcf\xfa\xed\xfe"sv, 0, "a Mach-O executable"},
    {"\xca\xfe\xba\xbe"sv, 0, "a Mach-O executable"},
    {"#!"sv, 0, "a script"},
    {"\x89HDF"sv, 0, "an HDF5 file"},
    {"\x93NUMPY"sv, 0, "a NumPy file"},
    {"lmgg"sv, 0, "a GGML file, the format before GGUF"},
    {"fmgg"sv, 0, "a GGML file, the format before GGUF"},
    {"tjgg"sv, 0, "a GGML file, the format before GGUF"},
};

// Older pickles have no magic, so these names are refused whatever is in the file.
constexpr std::string_view kPickleExtensions[] = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".nemo"};

bool has_at(std::span<const std::byte> bytes, size_t offset, std::string_view magic) {
  return bytes.size() >= offset + magic.size() &&
         std::memcmp(bytes.data() + offset, magic.data(), magic.size()) == 0;
}

// Eight bytes of length, then a JSON object.
bool looks_like_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() < 9 || bytes[8] != std::byte{'{'}) return false;
  const auto length = Reader(bytes).number<uint64_t>("length");
  return length >= 2 && length <= uint64_t{limits::kSafetensorsHeaderBytes};
}

std::string first_bytes(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes.first(std::min<size_t>(bytes.size(), 4)))
    text += fmt::format("{}{:02x}", text.empty() ? "" : " ", std::to_integer<int>(b));
  return text;
}

Error other_format(std::string_view name) {
  return refuse("format",
                "this is {}, which can carry code and is never opened: weights are read from GGUF and "
                "safetensors files",
                name);
}

}  // namespace

Format detect_format(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  if (has_at(bytes, 0, "GGUF")) return Format::gguf;
  if (bytes.empty()) throw refuse("format", "the file is empty: a GGUF or safetensors file was expected");
  for (const Magic& magic : kMagics)
    if (has_at(bytes, magic.offset, magic.bytes)) throw other_format(magic.name);
  if (looks_like_safetensors(bytes)) return Format::safetensors;
  for (const std::string_view extension : kPickleExtensions)
    if (path.extension() == extension)
      throw other_format(fmt::format("a {} file, a pickle by its name", extension));
  if (path.extension() == ".safetensors") return Format::safetensors;  // which says what is wrong with it
  throw refuse("format", "a GGUF file must begin with \"GGUF\", this one begins with the bytes {}",
               first_bytes(bytes));
}

}  // namespace neutrino::weights
