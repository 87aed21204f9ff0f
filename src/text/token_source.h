// Text to tokens for the constraint engine, which forces whole tokens where a grammar leaves one text only. The bridge to Rust
// (rust/src/lib.rs) includes this header; C++ implements the class in constraints.cpp.
#pragma once

#include <rust/cxx.h>

#include <cstdint>

namespace neutrino::text {

class TokenSource {
 public:
  virtual ~TokenSource() = default;
  // Appends the tokens that the tokenizer makes of plain text, special tokens not among them. Any thread.
  virtual void tokenize(rust::Slice<const uint8_t> text, rust::Vec<uint32_t>& tokens) const = 0;
};

}  // namespace neutrino::text
