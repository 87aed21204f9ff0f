// NIM's environment variables, and what each means here.
#pragma once

#include <span>
#include <string_view>

namespace neutrino::cli {

struct NimVariable {
  enum class Meaning {
    value,     // of the option
    list,      // of the option's values, separated by commas
    on_off,    // 1 or 0: the option's "on" or "off"
    one_only,  // must be 1 or unset: there is one process and no other device
    noted,     // no effect here; `why` says what holds instead
  };
  std::string_view name;
  Meaning meaning;
  std::string_view option = {};  // "port"; MODEL for the model
  std::string_view why = {};
};

std::span<const NimVariable> nim_variables();

}  // namespace neutrino::cli
