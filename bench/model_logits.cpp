// model_logits MODEL TOKENS WINDOW THREADS OUT: a model's float32 logits (--exact) after each token, for comparing with others'.
//
// TOKENS holds int32 ids; every WINDOW of them starts from an empty KV cache. OUT gets vocab_size float32 a token. Other
// programs' twins take the same arguments: llama_peer.cpp.

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cli/load.h"
#include "cli/model_runner.h"

using namespace neutrino;

namespace {

constexpr int64_t kChunk = 64;  // rows per forward pass

int64_t parse_count(const char* what, const char* text) {
  int64_t value = 0;
  const char* end = text + std::strlen(text);
  if (const auto [at, error] = std::from_chars(text, end, value);
      error != std::errc() || at != end || value < 1)
    throw make_error(ErrorCode::invalid_argument, "{} must be a number of at least 1, got {}", what, text);
  return value;
}

std::vector<int32_t> read_tokens(const char* path) {
  const std::string bytes = read_file(path, 64 << 20);
  std::vector<int32_t> tokens(bytes.size() / sizeof(int32_t));
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(int32_t));
  return tokens;
}

void write_logits(const weights::WeightFile& file, std::span<const int32_t> tokens, int64_t window,
                  int64_t threads, std::ostream& out) {
  const auto backend =
      compute::make_cpu_backend({.arithmetic = compute::Arithmetic::float32, .threads = threads});
  const auto model = models::load_model(file, *backend);
  cli::ModelRunner runner(*model, *backend, 1, window, kChunk, kChunk);
  for (size_t at = 0; at < tokens.size();) {
    if (runner.length(0) == window) runner.clear();
    const auto count =
        std::min({static_cast<int64_t>(tokens.size() - at), kChunk, window - runner.length(0)});
    const std::vector<int32_t> chunk(tokens.begin() + at, tokens.begin() + at + count);
    const compute::Tensor logits = runner.forward(0, {&chunk, 1}, cli::ModelRunner::Outputs::all);
    for (int64_t row = 0; row < logits.rows; ++row)
      out.write(reinterpret_cast<const char*>(logits.row(row)),
                static_cast<std::streamsize>(logits.columns * sizeof(float)));
    at += count;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6)
    throw Error(ErrorCode::invalid_argument, "usage: model_logits MODEL TOKENS WINDOW THREADS OUT");
  const weights::OpenModel model = cli::open_model(argv[1]);
  std::ofstream out(argv[5], std::ios::binary);
  write_logits(*model.file, read_tokens(argv[2]), parse_count("WINDOW", argv[3]),
               parse_count("THREADS", argv[4]), out);
  out.close();
  if (!out) throw make_error(ErrorCode::internal, "{} could not be written", argv[5]);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "model_logits: %s\n", error.what());
  return 1;
}
