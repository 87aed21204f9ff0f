// Which format a file is in, by its first bytes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace neutrino::weights {

enum class Format { gguf, safetensors };

// Throws Error that names what the bytes are, where they are neither. Pickles, archives and executables can carry code: they
// are never opened any further.
Format detect_format(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace neutrino::weights
