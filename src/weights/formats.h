// Which format a file is in, by its first bytes, for the sake of a clear refusal.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace neutrino::weights {

// Returns when the bytes begin like GGUF; else throws Error that names what they are. Pickles, archives and executables can
// carry code: they are never opened any further.
void refuse_other_formats(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace neutrino::weights
