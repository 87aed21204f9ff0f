// Logs: one line per lifecycle event to stderr, key=value. Prompts never appear above debug.
// Use spdlog's calls directly (spdlog::info("model loaded name={} ms={}", ...)) after init_log() in main.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace neutrino {

// level: trace|debug|info|warn|error|off; throws Error{invalid_argument} for another word.
void init_log(std::string_view level);

}  // namespace neutrino
