// What a model's licence means for who wants to use it, as far as its name tells.
#pragma once

#include <string>
#include <string_view>

namespace neutrino::weights {

struct License {
  std::string id = "unknown";  // as the Hugging Face hub names licences: "apache-2.0", "llama3.2", "other"
  std::string name = {};       // what the authors call a licence of their own
  std::string link = {};       // where its text stands
  bool gated = false;          // the hub asks to accept terms before it gives the files
};

enum class LicenseTerms {
  open,            // a known licence that anybody may use the model under for any purpose
  conditional,     // known: its terms forbid some uses or ask something of the user
  non_commercial,  // known: no commercial use
  unknown,         // nobody here has read it
};
LicenseTerms license_terms(const License& license);
std::string_view license_terms_name(
    LicenseTerms terms);  // "open", "conditional", "non-commercial", "unknown"

// What a person must be told before using the model: one or two sentences. Empty where the terms are open.
std::string license_notice(const License& license);

// What the front matter of a model card (README.md: YAML between two lines "---") says. Understands plain and quoted scalars at the
// top level, which is what hubs write; anything else counts as not said.
License read_model_card(std::string_view readme);

// `said` where it says something, field by field, else `fallback`.
License combine(const License& said, const License& fallback);

}  // namespace neutrino::weights
