#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace neutrino {

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::deadline_exceeded: return "deadline_exceeded";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::already_exists: return "already_exists";
    case ErrorCode::permission_denied: return "permission_denied";
    case ErrorCode::unauthenticated: return "unauthenticated";
    case ErrorCode::resource_exhausted: return "resource_exhausted";
    case ErrorCode::failed_precondition: return "failed_precondition";
    case ErrorCode::out_of_range: return "out_of_range";
    case ErrorCode::unimplemented: return "unimplemented";
    case ErrorCode::internal: return "internal";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::data_loss: return "data_loss";
  }
  return "unknown";
}

int error_exit_code(ErrorCode code) {
  return code == ErrorCode::invalid_argument || code == ErrorCode::out_of_range ? 2 : 1;
}

void check_failed(std::string_view message, const std::source_location& where) {
  std::fprintf(stderr, "%s:%u: check failed in %s: %.*s\n", where.file_name(), where.line(),
               where.function_name(), static_cast<int>(message.size()), message.data());
  std::abort();
}

}  // namespace neutrino
