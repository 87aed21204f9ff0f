// A folder for one test, removed with it.
#pragma once

#include "base/testing/temporary_folder.h"

namespace neutrino::weights::testing {

using neutrino::TemporaryFolder;

}  // namespace neutrino::weights::testing
