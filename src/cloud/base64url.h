// Base64 with the URL's alphabet and without padding (RFC 4648, section 5): what tokens and cookies are written in.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace neutrino::cloud {

std::string to_base64url(std::string_view bytes);
// nullopt unless `text` is exactly what to_base64url() writes.
std::optional<std::string> from_base64url(std::string_view text);

}  // namespace neutrino::cloud
