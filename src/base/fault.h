// Fault points: named places where a test makes things go wrong.
//
// NEUTRINO_FAULT="engine_step:throw@20,store_write:kill@3" arms them: the action happens at the N-th arrival, counted from 1.
// They are compiled into debug and tsan builds only; a release binary refuses to start with NEUTRINO_FAULT set, so that nobody
// believes in a fault that was not there.
//
// A request passes, in this order: http_read, request_parse, chat_template, tokenize, grammar_compile, engine_submit, engine_step,
// engine_sample, detokenize, http_write.
#pragma once

#include <string_view>

namespace neutrino {

// throw: a std::runtime_error (a bug, not an Error); error: an Error{internal}; kill: SIGKILL of this process;
// stall: sleeps 10 s; hang: never goes on; slow: sleeps 200 ms, at this arrival and all that follow.
#ifdef NEUTRINO_FAULTS
void fault_point(std::string_view name);
// For tests, in place of the environment: forgets what was armed and lets go on what hangs. Throws for malformed text.
void arm_faults(std::string_view text);
inline constexpr bool kFaultsCompiled = true;
#else
inline void fault_point(std::string_view) {}
inline void arm_faults(std::string_view) {}
inline constexpr bool kFaultsCompiled = false;
#endif

// Call once at start: throws Error{invalid_argument} for a malformed NEUTRINO_FAULT, or for any in a release build.
void check_fault_environment();

}  // namespace neutrino
