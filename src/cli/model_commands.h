// `neutrino model` subcommands that stand in files of their own. Each adds itself to `app` and sets `chosen` when it is called.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace neutrino::cli {

void add_convert(CLI::App& app, std::function<int()>& chosen);  // convert, quantize
void add_merge(CLI::App& app, std::function<int()>& chosen);

}  // namespace neutrino::cli
