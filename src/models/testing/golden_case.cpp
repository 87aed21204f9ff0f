#include "models/testing/golden_case.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>

#include "base/checked.h"
#include "base/file.h"
#include "compute/dtype.h"
#include "models/pooling.h"
#include "weights/convert.h"

namespace neutrino::models::testing {
namespace {

template <typename T>
std::vector<T> read_numbers(const json::value& value) {
  std::vector<T> numbers;
  for (const json::value& item : value.as_array()) numbers.push_back(item.to_number<T>());
  return numbers;
}

GoldenTensor read_tensor(const json::value& value) {
  const json::array& fields = value.as_array();
  return {.name = std::string(fields[0].as_string()),
          .dtype = std::string(fields[1].as_string()),
          .shape = read_numbers<int64_t>(fields[2]),
          .offset = static_cast<float>(fields[3].to_number<double>()),
          .scale = static_cast<float>(fields[4].to_number<double>())};
}

uint64_t mix(uint64_t z) {  // splitmix64's finaliser
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::string tensor_bytes(const GoldenTensor& tensor, bool corrupted) {
  const int64_t count =
      std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
  const std::vector<float> u = golden_uniform(tensor.salt + tensor.name + (corrupted ? "!" : ""), count);
  std::string bytes;
  for (const float value : u) {
    const float scaled = tensor.scale * value, element = tensor.offset + scaled;
    if (tensor.dtype == "F32") {
      bytes.append(reinterpret_cast<const char*>(&element), 4);
    } else {
      const uint16_t bits =
          tensor.dtype == "BF16" ? compute::f32_to_bf16(element) : compute::f32_to_f16(element);
      bytes.append(reinterpret_cast<const char*>(&bits), 2);
    }
  }
  return bytes;
}

}  // namespace

std::vector<float> golden_uniform(std::string_view name, int64_t count) {
  uint64_t seed = 0xCBF29CE484222325u;  // FNV-1a
  for (const char byte : name) seed = (seed ^ static_cast<uint8_t>(byte)) * 0x100000001B3u;
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t hash = mix(seed + static_cast<uint64_t>(i + 1) * 0x9E3779B97F4A7C15u);
    values[i] = static_cast<float>(static_cast<int64_t>(hash >> 40) - (1 << 23)) * 0x1p-23f;
  }
  return values;
}

std::vector<std::string> golden_case_names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

GoldenCase read_golden_case(const std::filesystem::path& folder, std::string_view name) {
  const auto path = folder / (std::string(name) + ".json");
  GoldenCase golden;
  golden.name = name;
  golden.file = parse_json(read_file(path, 16 << 20)).as_object();
  golden.config = golden.file.at("config").as_object();
  for (const json::value& tensor : golden.file.at("tensors").as_array())
    golden.tensors.push_back(read_tensor(tensor));
  golden.tokens = read_numbers<int32_t>(golden.file.at("tokens"));
  golden.rows = read_numbers<int64_t>(golden.file.at("rows"));
  golden.columns = golden.file.at("columns").to_number<int64_t>();
  for (const int64_t value : read_numbers<int64_t>(golden.file.at("output_1e5")))
    golden.expected.push_back(static_cast<float>(static_cast<double>(value) * 1e-5));
  if (const json::value* context = golden.file.if_contains("context"))
    golden.context = context->to_number<int64_t>();
  return golden;
}

namespace {

void write_safetensors(const std::vector<std::pair<std::string, const GoldenTensor*>>& tensors,
                       std::string_view corrupted, const std::filesystem::path& path) {
  json::object header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    data += tensor_bytes(*tensor, tensor->name == corrupted);
    header[name] = {{"dtype", tensor->dtype},
                    {"shape", json::array(tensor->shape.begin(), tensor->shape.end())},
                    {"data_offsets", {begin, data.size()}}};
  }
  std::string text = to_text(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(&length), 8) << text << data;
  file.close();
  check(file.good(), "cannot write the checkpoint of a test");
}

}  // namespace

// A tensor of a sentence-transformers module, "2_Dense.linear.weight", goes to the module's own file.
void write_checkpoint(const GoldenCase& golden, const std::filesystem::path& folder,
                      std::string_view corrupted) {
  std::map<std::string, std::vector<std::pair<std::string, const GoldenTensor*>>> files;
  for (const GoldenTensor& tensor : golden.tensors) {
    const bool module = std::isdigit(static_cast<unsigned char>(tensor.name[0]));
    const size_t dot = module ? tensor.name.find('.') : 0;
    files[tensor.name.substr(0, dot)].emplace_back(tensor.name.substr(module ? dot + 1 : 0), &tensor);
  }
  for (const auto& [module, tensors] : files) {
    std::filesystem::create_directories(folder / module);
    write_safetensors(tensors, corrupted, folder / module / "model.safetensors");
  }
  std::ofstream(folder / "config.json", std::ios::trunc) << to_text(golden.config);
  const json::value* extra = golden.file.if_contains("files");
  for (const auto& [name, content] : extra ? extra->as_object() : json::object()) {
    std::filesystem::create_directories((folder / std::string(name)).parent_path());
    std::ofstream(folder / std::string(name), std::ios::trunc) << to_text(content);
  }
}

namespace {

// Byte-level BPE of so many tokens: convert writes a vocabulary, which the golden cases do not have.
void write_tokenizer(const std::filesystem::path& path) {
  json::object vocab;
  for (int64_t id = 0; id < 64; ++id) vocab["token" + std::to_string(id)] = id;
  const json::object file = {
      {"pre_tokenizer",
       json::object{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"decoder", json::object{{"type", "ByteLevel"}}},
      {"model", json::object{{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
  std::ofstream(path, std::ios::trunc) << to_text(file);
}

}  // namespace

void convert_to_f32_gguf(const std::filesystem::path& checkpoint, const std::filesystem::path& path) {
  write_tokenizer(checkpoint / "tokenizer.json");
  weights::ConvertOptions options{.mix = &weights::quant_mix_named("f32"), .lineage = {}, .threads = 1};
  weights::convert_to_gguf(*weights::open_weight_file(checkpoint), path, options);
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "neutrino-test-XXXXXX").string();
  check(mkdtemp(name.data()) != nullptr, "cannot make a temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<float> run_tokens(const Model& model, compute::Backend& backend,
                              const std::vector<int32_t>& tokens, const RunOptions& options) {
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t blocks = ceil_div(count, compute::kBlockPositions) + 1;
  const auto cache = backend.make_kv_cache(model.kv_cache_shape(blocks, 2));
  std::vector<int32_t> table(blocks);
  for (int64_t i = 0; i < blocks; ++i) table[i] = static_cast<int32_t>(blocks - 1 - i);
  const std::vector<int64_t> chunks = options.chunks.empty() ? std::vector{count} : options.chunks;
  backend.reserve(model.scratch_bytes(count, count) +
                  (options.adapter ? backend.adapter_scratch_bytes(count, options.adapter->rank()) : 0));
  if (model.config().recurrent) cache->clear_state(0);
  std::vector<float> outputs;
  int32_t slot = 0;
  int64_t done = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (options.resume_at > 0 && i == options.resume_at && model.config().recurrent) {
      cache->copy_state(0, 1);
      cache->clear_state(0);
      slot = 1;
    }
    std::vector<int32_t> positions(chunks[i]), rows;
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(done));
    for (int32_t row = 0; row < chunks[i]; ++row)
      if (options.wanted.empty() || std::ranges::binary_search(options.wanted, done + row))
        rows.push_back(row);
    const compute::SequenceRows sequence{.rows = chunks[i],
                                         .first_position = done,
                                         .block_table = table,
                                         .state_slot = slot,
                                         .adapter = options.adapter};
    const compute::Tensor out =
        model.forward(backend,
                      {.tokens = {tokens.data() + done, static_cast<size_t>(chunks[i])},
                       .positions = positions,
                       .sequences = {&sequence, 1},
                       .output_rows = rows},
                      *cache);
    for (int64_t r = 0; r < out.rows; ++r)
      outputs.insert(outputs.end(), out.row(r), out.row(r) + out.columns);
    done += chunks[i];
  }
  return outputs;
}

std::vector<float> run_pooled(const Model& model, compute::Backend& backend,
                              const std::vector<int32_t>& tokens) {
  const std::vector<float> hidden = run_tokens(model, backend, tokens);
  const int64_t columns = model.output_columns(), length = static_cast<int64_t>(tokens.size());
  backend.begin_step({});
  const compute::Tensor pooled = backend.zeros(1, columns);
  for (int64_t i = 0; i < length; ++i)
    add_to_pool(pooled_rows(model.config()), hidden.data() + i * columns, i, length, columns, pooled.data);
  const compute::Tensor out = model.finish(backend, pooled);
  return {out.data, out.data + out.columns};
}

double largest_difference(const GoldenCase& golden, const std::vector<float>& outputs) {
  check(outputs.size() >= (golden.rows.back() + 1) * static_cast<size_t>(golden.columns), "an output a row");
  double largest = 0;
  for (size_t r = 0; r < golden.rows.size(); ++r)
    for (int64_t c = 0; c < golden.columns; ++c) {
      const double difference = std::abs(double{outputs[golden.rows[r] * golden.columns + c]} -
                                         golden.expected[r * golden.columns + c]);
      largest = difference <= largest ? largest : difference;  // a NaN is the largest
    }
  return largest;
}

}  // namespace neutrino::models::testing
