// GGUF files for tests: a plain structure that says all that a file says, and serialise(), which believes it.
//
// tiny_llama() makes a whole model of a few kilobytes: a byte-level vocabulary with merges, a chat template, weights that are
// random and harmless. A test changes what it likes (a wrong count, a key of another type) and writes the file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/random.h"
#include "compute/dtype.h"
#include "compute/testing/random_block.h"
#include "weights/gguf_dtypes.h"
#include "weights/gguf_metadata.h"

namespace neutrino::weights::testing {

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

inline void append_text(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out += text;
}

struct GgufKeyValue {
  std::string key;
  uint32_t type = 0;                        // GgufType, or what a hostile file says
  std::string payload;                      // the bytes behind the type
  std::optional<uint64_t> key_length = {};  // empty, as below: the true one
};

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> dimensions;  // innermost first, as in the file
  uint32_t type = 0;                 // ggml's number
  uint64_t offset = 0;               // what the info says; the data lies where layout() would put it
  std::string data;
  std::optional<uint64_t> name_length = {};
  std::optional<uint32_t> dimension_count = {};
};

struct GgufImage {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count, metadata_count;  // empty: the true ones
  std::vector<GgufKeyValue> metadata;
  std::vector<GgufTensor> tensors;
  uint64_t alignment = 32;  // of the data; general.alignment is a key like any other

  GgufKeyValue* find(std::string_view key) {
    for (auto& entry : metadata)
      if (entry.key == key) return &entry;
    return nullptr;
  }
  void erase(std::string_view key) {
    std::erase_if(metadata, [&](const GgufKeyValue& entry) { return entry.key == key; });
  }
  // Replaces the key's value, or adds it.
  void set(GgufKeyValue value) {
    if (GgufKeyValue* old = find(value.key))
      *old = std::move(value);
    else
      metadata.push_back(std::move(value));
  }
};

template <typename T>
GgufKeyValue number_value(std::string key, GgufType type, T value) {
  GgufKeyValue entry{.key = std::move(key), .type = static_cast<uint32_t>(type), .payload = {}};
  append(entry.payload, value);
  return entry;
}
inline GgufKeyValue u32_value(std::string key, uint32_t value) {
  return number_value(std::move(key), GgufType::u32, value);
}
inline GgufKeyValue f32_value(std::string key, float value) {
  return number_value(std::move(key), GgufType::f32, value);
}
inline GgufKeyValue bool_value(std::string key, bool value) {
  return number_value(std::move(key), GgufType::boolean, static_cast<uint8_t>(value));
}
inline GgufKeyValue text_value(std::string key, std::string_view text) {
  GgufKeyValue entry{std::move(key), static_cast<uint32_t>(GgufType::string), {}};
  append_text(entry.payload, text);
  return entry;
}
template <typename T>
GgufKeyValue array_value(std::string key, GgufType element, const std::vector<T>& values) {
  GgufKeyValue entry{std::move(key), static_cast<uint32_t>(GgufType::array), {}};
  append(entry.payload, static_cast<uint32_t>(element));
  append<uint64_t>(entry.payload, values.size());
  for (const auto& value : values) {
    if constexpr (std::is_same_v<T, std::string>)
      append_text(entry.payload, value);
    else
      append(entry.payload, value);
  }
  return entry;
}

// Offsets one behind the other, as a writer assigns them.
inline void layout(GgufImage& image) {
  uint64_t offset = 0;
  for (auto& tensor : image.tensors) {
    tensor.offset = offset;
    offset = checked_align(offset + tensor.data.size(), image.alignment).value();
  }
}

inline void pad(std::string& out, uint64_t alignment) {
  out.resize(checked_align(out.size(), alignment).value());
}

// All up to the padding before the data.
inline std::string serialise_header(const GgufImage& image) {
  std::string out = image.magic;
  append(out, image.version);
  append<uint64_t>(out, image.tensor_count.value_or(image.tensors.size()));
  append<uint64_t>(out, image.metadata_count.value_or(image.metadata.size()));
  for (const auto& entry : image.metadata) {
    append(out, entry.key_length.value_or(entry.key.size()));
    out += entry.key;
    append(out, entry.type);
    out += entry.payload;
  }
  for (const auto& tensor : image.tensors) {
    append(out, tensor.name_length.value_or(tensor.name.size()));
    out += tensor.name;
    append(out, tensor.dimension_count.value_or(static_cast<uint32_t>(tensor.dimensions.size())));
    for (const uint64_t size : tensor.dimensions) append(out, size);
    append(out, tensor.type);
    append(out, tensor.offset);
  }
  return out;
}

inline std::string serialise(const GgufImage& image) {
  std::string out = serialise_header(image);
  for (const auto& tensor : image.tensors) {
    pad(out, image.alignment);
    out += tensor.data;
  }
  return out;
}

// ---- a whole model

struct TinyLlama {
  int64_t hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1;
  int64_t num_attention_heads = 2, num_key_value_heads = 1, context_length = 256;
  compute::DType dtype = compute::DType::q8_0;  // of the matrices; norms are f32
  bool tie_word_embeddings = true;
  int64_t extra_tokens = 0;  // unused tokens behind the vocabulary's own
  uint64_t seed = 1;
};

// Random weights of at most about +-`scale`, in the type's own layout.
inline std::string random_weights(Random& random, compute::DType dtype, int64_t elements, float scale) {
  const auto info = compute::dtype_info(dtype);
  std::string out(static_cast<size_t>(elements / info.block * info.block_bytes), '\0');
  for (size_t at = 0; at < out.size(); at += static_cast<size_t>(info.block_bytes))
    compute::testing::random_block(random, dtype, scale, out.data() + at);
  return out;
}

// Large enough for rows of whole quant blocks.
inline TinyLlama tiny_sizes(compute::DType dtype) {
  const int64_t block = compute::dtype_info(dtype).block;
  return {.hidden_size = std::max<int64_t>(32, block),
          .intermediate_size = std::max<int64_t>(64, block),
          .dtype = dtype};
}

inline void add_matrix(GgufImage& image, Random& random, std::string name, compute::DType dtype, int64_t rows,
                       int64_t columns) {
  image.tensors.push_back({std::move(name),
                           {static_cast<uint64_t>(columns), static_cast<uint64_t>(rows)},
                           gguf_dtype_number(dtype),
                           0,
                           random_weights(random, dtype, rows * columns, 0.1f)});
}

inline void add_norm(GgufImage& image, std::string name, int64_t size) {
  GgufTensor tensor{
      std::move(name), {static_cast<uint64_t>(size)}, gguf_dtype_number(compute::DType::f32), 0, {}};
  for (int64_t i = 0; i < size; ++i) append(tensor.data, 1.0f);
  image.tensors.push_back(std::move(tensor));
}

inline void add_layer(GgufImage& image, Random& random, const TinyLlama& o, int64_t layer) {
  const int64_t head_dim = o.hidden_size / o.num_attention_heads, kv = head_dim * o.num_key_value_heads;
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  add_norm(image, prefix + "attn_norm.weight", o.hidden_size);
  add_matrix(image, random, prefix + "attn_q.weight", o.dtype, o.hidden_size, o.hidden_size);
  add_matrix(image, random, prefix + "attn_k.weight", o.dtype, kv, o.hidden_size);
  add_matrix(image, random, prefix + "attn_v.weight", o.dtype, kv, o.hidden_size);
  add_matrix(image, random, prefix + "attn_output.weight", o.dtype, o.hidden_size, o.hidden_size);
  add_norm(image, prefix + "ffn_norm.weight", o.hidden_size);
  add_matrix(image, random, prefix + "ffn_gate.weight", o.dtype, o.intermediate_size, o.hidden_size);
  add_matrix(image, random, prefix + "ffn_up.weight", o.dtype, o.intermediate_size, o.hidden_size);
  add_matrix(image, random, prefix + "ffn_down.weight", o.dtype, o.hidden_size, o.intermediate_size);
}

inline std::string utf8(uint32_t code) {  // below U+0800
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
}

// GPT-2's 256 byte characters: printable Latin-1 stands for itself, the others for U+0100 on.
inline std::vector<std::string> byte_characters() {
  std::vector<std::string> characters;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    characters.push_back(utf8(itself ? b : next++));
  }
  return characters;
}

inline const std::vector<std::string>& tiny_merges() {
  static const std::vector<std::string> merges = {"h e",      "l l",       "he ll",      "hell o",
                                                  "\u0120 t", "\u0120t h", "\u0120th e", "o r"};
  return merges;
}

// <|endoftext|>, <|im_start|>, <|im_end|>, the 256 bytes, one token per merge, unused ones.
inline void add_vocabulary(GgufImage& image, int64_t extra_tokens) {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> kinds(tokens.size(), 3);
  for (const auto& character : byte_characters()) tokens.push_back(character);
  for (std::string merge : tiny_merges()) tokens.push_back(merge.erase(merge.find(' '), 1));
  kinds.resize(tokens.size(), 1);
  for (int64_t i = 0; i < extra_tokens; ++i) tokens.push_back("<|unused" + std::to_string(i) + "|>");
  kinds.resize(tokens.size(), 5);
  image.metadata.push_back(text_value("tokenizer.ggml.model", "gpt2"));
  image.metadata.push_back(text_value("tokenizer.ggml.pre", "smollm"));
  image.metadata.push_back(array_value("tokenizer.ggml.tokens", GgufType::string, tokens));
  image.metadata.push_back(array_value("tokenizer.ggml.token_type", GgufType::i32, kinds));
  image.metadata.push_back(array_value("tokenizer.ggml.merges", GgufType::string, tiny_merges()));
  image.metadata.push_back(u32_value("tokenizer.ggml.bos_token_id", 1));
  image.metadata.push_back(u32_value("tokenizer.ggml.eos_token_id", 2));
  image.metadata.push_back(u32_value("tokenizer.ggml.unknown_token_id", 0));
  image.metadata.push_back(u32_value("tokenizer.ggml.padding_token_id", 2));
  image.metadata.push_back(bool_value("tokenizer.ggml.add_bos_token", false));
  image.metadata.push_back(text_value(
      "tokenizer.chat_template",
      "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
      "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"));
}

inline int64_t tiny_vocabulary_size(const TinyLlama& options) {
  return 3 + 256 + static_cast<int64_t>(tiny_merges().size()) + options.extra_tokens;
}

inline void add_config(GgufImage& image, const TinyLlama& o) {
  const auto u32 = [&](const char* key, int64_t value) {
    image.metadata.push_back(u32_value(key, static_cast<uint32_t>(value)));
  };
  image.metadata.push_back(text_value("general.architecture", "llama"));
  image.metadata.push_back(text_value("general.name", "tiny"));
  image.metadata.push_back(text_value("general.license", "apache-2.0"));
  u32("general.alignment", static_cast<int64_t>(image.alignment));
  u32("llama.block_count", o.num_hidden_layers);
  u32("llama.context_length", o.context_length);
  u32("llama.embedding_length", o.hidden_size);
  u32("llama.feed_forward_length", o.intermediate_size);
  u32("llama.attention.head_count", o.num_attention_heads);
  u32("llama.attention.head_count_kv", o.num_key_value_heads);
  u32("llama.rope.dimension_count", o.hidden_size / o.num_attention_heads);
  u32("llama.vocab_size", tiny_vocabulary_size(o));
  image.metadata.push_back(f32_value("llama.attention.layer_norm_rms_epsilon", 1e-5f));
  image.metadata.push_back(f32_value("llama.rope.freq_base", 10000.0f));
}

inline GgufImage tiny_llama(const TinyLlama& options = {}) {
  GgufImage image;
  Random random(options.seed);
  add_config(image, options);
  add_vocabulary(image, options.extra_tokens);
  add_matrix(image, random, "token_embd.weight", options.dtype, tiny_vocabulary_size(options),
             options.hidden_size);
  for (int64_t layer = 0; layer < options.num_hidden_layers; ++layer)
    add_layer(image, random, options, layer);
  add_norm(image, "output_norm.weight", options.hidden_size);
  if (!options.tie_word_embeddings)
    add_matrix(image, random, "output.weight", options.dtype, tiny_vocabulary_size(options),
               options.hidden_size);
  layout(image);
  return image;
}

}  // namespace neutrino::weights::testing
