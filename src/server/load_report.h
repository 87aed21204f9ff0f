// How busy this replica is, for whoever spreads requests over several: GET /load, and the ORCA header on answers.
//
// A gateway that sends `endpoint-load-metrics-format: TEXT` (or JSON) gets `endpoint-load-metrics` with the answer, under the names
// that vLLM uses there: no scrape is needed to know which replica has room.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "chat/chat_model.h"

namespace neutrino::server {

// Share of KV blocks that sequences hold, 0 to 1.
double kv_cache_usage(const chat::ChatModelStatus& status);

// The header's value; nullopt for a format that this server does not write.
std::optional<std::string> orca_load(std::string_view format, const chat::ChatModelStatus& status);

json::object load_json(const chat::ChatModelStatus& status);

}  // namespace neutrino::server
