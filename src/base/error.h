// How neutrino fails.
//
// 1. What ends a request, a job or a command throws Error{code, message}; it is caught at the request, at the engine step
//    (which fails only those sequences), at the job runner, or in main.
// 2. What a caller is expected to handle is a return value.
// 3. What cannot happen is a check(). It is always on, and never reachable from a request or a file.
//
// A message names the thing, the value and what was expected: "port must be 1-65535, got 70000".
#pragma once

#include <fmt/format.h>

#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace neutrino {

// gRPC's names. error_exit_code() translates them for the shell; net/error_body.h translates them for HTTP.
enum class ErrorCode {
  cancelled,
  invalid_argument,
  deadline_exceeded,
  not_found,
  already_exists,
  permission_denied,
  unauthenticated,
  resource_exhausted,
  failed_precondition,
  out_of_range,
  unimplemented,
  internal,
  unavailable,
  data_loss,
};

std::string_view error_code_name(ErrorCode code);
int error_exit_code(ErrorCode code);  // 2 for bad usage (invalid_argument, out_of_range), else 1

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  // `reason`: a stable machine-readable word for clients ("context_length_exceeded"); `param`: the JSON path of the field
  // at fault ("messages[2].content"). Both may stay empty.
  Error& with_reason(std::string reason) & { return reason_ = std::move(reason), *this; }
  Error& with_param(std::string param) & { return param_ = std::move(param), *this; }
  Error&& with_reason(std::string reason) && { return reason_ = std::move(reason), std::move(*this); }
  Error&& with_param(std::string param) && { return param_ = std::move(param), std::move(*this); }

  ErrorCode code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }
  const std::string& message() const { return message_; }
  const std::string& reason() const { return reason_; }
  const std::string& param() const { return param_; }

 private:
  ErrorCode code_;
  std::string message_;
  std::string reason_;
  std::string param_;
};

template <typename... Args>
Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void check_failed(std::string_view message, const std::source_location& where);

// Prints the place and the message to stderr and aborts when `condition` is false.
inline void check(bool condition, std::string_view message = {},
                  const std::source_location& where = std::source_location::current()) {
  if (!condition) [[unlikely]]
    check_failed(message, where);
}

}  // namespace neutrino
