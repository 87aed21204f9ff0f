// What a person types after `neutrino model pull`.
//
//   owner/name, hf://owner/name       a repository of the hub; then maybe @REVISION and :QUANT ("owner/name:Q4_K_M")
//   https://hub/owner/name            the same, as the browser shows it; also with /tree/REVISION, /blob/REVISION/FILE
//   https://host/path/model.gguf      a file anywhere
//   oci://host/name:tag               an artefact of an OCI registry; or @sha256:DIGEST
//   file:PATH, ./PATH, /PATH, X.gguf  a file or folder of this machine
#pragma once

#include <string>
#include <string_view>

#include "net/url.h"

namespace neutrino::weights {

struct Reference {
  enum class Kind { hub, url, oci, path };
  Kind kind = Kind::hub;
  std::string repository = {};  // hub: "owner/name"; oci: "name", without the host
  std::string revision = {};    // hub: a branch, tag or commit, empty: main; oci: a tag or "sha256:..."
  std::string quant = {};
  std::string file = {};  // hub: the only file that is meant
  std::string path = {};  // path
  net::Url url = {};      // url; oci: the registry
};

// Throws Error{invalid_argument} that says what is expected.
Reference parse_reference(std::string_view text, const net::Url& hub);

}  // namespace neutrino::weights
