#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include "base/error.h"

namespace neutrino {

void init_log(std::string_view level) {
  const auto parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off")
    throw make_error(ErrorCode::invalid_argument,
                     "log level must be trace, debug, info, warn, error or off, got \"{}\"", level);
  auto logger =
      std::make_shared<spdlog::logger>("neutrino", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace neutrino
