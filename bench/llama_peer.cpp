// What quantisation_peers.py and model_peers.py ask of llama.cpp, over its public llama.h; they compile it against the peer.
//
//   llama_peer quantize SOURCE OUT FTYPE THREADS        what llama-quantize does when it gets no further options
//   llama_peer logits MODEL TOKENS WINDOW THREADS OUT   twin of model_logits.cpp: with llama.cpp's defaults
//   llama_peer exact ...                                the same with keys and values in float32
#include <llama.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void only_errors(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

int quantize(char** arguments) {
  llama_model_quantize_params options = llama_model_quantize_default_params();
  options.ftype = static_cast<llama_ftype>(std::atoi(arguments[2]));
  options.nthread = std::atoi(arguments[3]);
  return static_cast<int>(llama_model_quantize(arguments[0], arguments[1], &options));
}

std::vector<llama_token> read_tokens(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  std::vector<llama_token> tokens(bytes.size() / sizeof(llama_token));
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(llama_token));
  return tokens;
}

llama_context* make_context(llama_model* model, int window, int threads, bool exact) {
  llama_context_params options = llama_context_default_params();
  options.n_ctx = options.n_batch = options.n_ubatch = static_cast<uint32_t>(window);
  options.n_threads = options.n_threads_batch = threads;
  if (exact) {
    options.type_k = options.type_v = GGML_TYPE_F32;
    options.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  }
  llama_context* context = llama_init_from_model(model, options);
  if (!context) throw std::runtime_error("no context");
  return context;
}

// Logits after each of tokens[0..count), from an empty cache.
void write_window(llama_context* context, const llama_token* tokens, int count, int vocabulary,
                  std::ostream& out) {
  llama_memory_clear(llama_get_memory(context), true);
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int i = 0; i < count; ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) throw std::runtime_error("decoding failed");
  for (int i = 0; i < count; ++i)
    out.write(reinterpret_cast<const char*>(llama_get_logits_ith(context, i)),
              static_cast<std::streamsize>(vocabulary * sizeof(float)));
  llama_batch_free(batch);
}

int logits(char** arguments, bool exact) {
  llama_model* model = llama_model_load_from_file(arguments[0], llama_model_default_params());
  if (!model) throw std::runtime_error("the model could not be loaded");
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const std::vector<llama_token> tokens = read_tokens(arguments[1]);
  const int window = std::atoi(arguments[2]);
  llama_context* context = make_context(model, window, std::atoi(arguments[3]), exact);
  std::ofstream out(arguments[4], std::ios::binary);
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(window))
    write_window(context, &tokens[at], static_cast<int>(std::min<size_t>(window, tokens.size() - at)),
                 vocabulary, out);
  out.close();
  llama_free(context);
  llama_model_free(model);
  return out ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  llama_log_set(only_errors, nullptr);
  llama_backend_init();
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "quantize" && argc == 6) return quantize(argv + 2);
  if ((command == "logits" || command == "exact") && argc == 7) return logits(argv + 2, command == "exact");
  std::fputs(
      "usage: llama_peer quantize SOURCE OUT FTYPE THREADS | logits|exact MODEL TOKENS WINDOW THREADS OUT\n",
      stderr);
  return 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "llama_peer: %s\n", error.what());
  return 1;
}
