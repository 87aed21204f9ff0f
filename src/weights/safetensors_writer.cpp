#include "weights/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "tokenizer/tokenizer_json_writer.h"
#include "weights/checkpoint_form.h"
#include "weights/derived_file.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;
using compute::DType;

constexpr int64_t kShardBytes = int64_t{2} << 30;

struct Planned {
  const CheckpointTensor* tensor;
  DType dtype;
  int64_t bytes;
};

struct Shard {
  std::string name;
  std::vector<Planned> tensors;
  int64_t bytes = 0;
};

std::string_view type_name(DType dtype) {
  return dtype == DType::f32 ? "F32" : dtype == DType::f16 ? "F16" : "BF16";
}

DType target_type(const CheckpointTensor& tensor, const QuantMix* mix) {
  const bool matrix = tensor.shape.size() > 1;
  if (mix && matrix) return mix->base;
  if (tensor.dtype == DType::f16 || tensor.dtype == DType::f32 || tensor.dtype == DType::bf16)
    return tensor.dtype;
  return DType::bf16;
}

std::vector<Shard> plan_shards(const CheckpointTensors& tensors, const QuantMix* mix) {
  if (mix && mix->base != DType::f32 && mix->base != DType::f16 && mix->base != DType::bf16)
    throw make_error(ErrorCode::invalid_argument, "a checkpoint's --type must be f32, f16 or bf16, got {}",
                     mix->name);
  std::vector<Shard> shards(1);
  for (const CheckpointTensor& tensor : tensors.list()) {
    const DType dtype = target_type(tensor, mix);
    const int64_t rows = tensor.shape.size() > 1 ? tensor.shape[0] : 1;
    const int64_t bytes = *compute::matrix_bytes(dtype, rows, tensor.shape.back());
    if (shards.back().bytes > 0 && shards.back().bytes + bytes > kShardBytes) shards.emplace_back();
    shards.back().tensors.push_back({&tensor, dtype, bytes});
    shards.back().bytes += bytes;
  }
  for (size_t i = 0; i < shards.size(); ++i)
    shards[i].name = shards.size() == 1
                         ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

std::string shard_header(const Shard& shard, const std::string& lineage) {
  json::object header, metadata{{"format", "pt"}};
  if (!lineage.empty()) metadata[kLineageKey] = lineage;
  header["__metadata__"] = std::move(metadata);
  int64_t offset = 0;
  for (const Planned& planned : shard.tensors) {
    header[planned.tensor->name] = {
        {"dtype", type_name(planned.dtype)},
        {"shape", json::array(planned.tensor->shape.begin(), planned.tensor->shape.end())},
        {"data_offsets", {offset, offset + planned.bytes}}};
    offset += planned.bytes;
  }
  std::string text = to_text(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + text;
}

// ---- the small files

json::object make_config(const CheckpointForm& form) {
  json::object config = form.config;
  config.erase("quantization_config");
  config.erase("sentence_transformers");  // the reader's own
  return config;
}

// GGUF's tokens as tokenizer.json: for files that remember its pipeline.
void write_tokenizer(const WeightFile& source, const fs::path& folder) {
  if (source.format() == "safetensors") {
    const fs::path from = fs::is_directory(source.path()) ? source.path() : source.path().parent_path();
    for (const char* name :
         {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model",
          "vocab.json", "merges.txt", "vocab.txt", "generation_config.json", "chat_template.jinja"})
      if (fs::is_regular_file(from / name))
        fs::copy_file(from / name, folder / name, fs::copy_options::overwrite_existing);
    return;
  }
  const tokenizer::Vocabulary vocabulary = source.vocabulary();
  json::object config{{"tokenizer_class", "PreTrainedTokenizerFast"}};
  const auto name_token = [&](std::string_view field, std::optional<int32_t> id) {
    if (id) config[field] = vocabulary.tokens[static_cast<size_t>(*id)];
  };
  name_token("bos_token", vocabulary.bos);
  name_token("eos_token", vocabulary.eos);
  name_token("unk_token", vocabulary.unknown);
  name_token("pad_token", vocabulary.padding);
  if (vocabulary.add_bos) config["add_bos_token"] = *vocabulary.add_bos;
  if (const auto text = source.chat_template()) config["chat_template"] = *text;
  write_file_atomic(folder / "tokenizer_config.json", to_text(config));
  write_file_atomic(folder / "tokenizer.json", tokenizer::write_tokenizer_json(vocabulary));
}

void write_index(const std::vector<Shard>& shards, const fs::path& folder) {
  if (shards.size() == 1) return;
  json::object map;
  int64_t total = 0;
  for (const Shard& shard : shards) {
    total += shard.bytes;
    for (const Planned& planned : shard.tensors) map[planned.tensor->name] = shard.name;
  }
  write_file_atomic(
      folder / "model.safetensors.index.json",
      to_text(json::object{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}}));
}

void write_shard(const CheckpointTensors& tensors, const Shard& shard, const std::string& header,
                 const fs::path& path, const std::function<void(int64_t)>& wrote) {
  const fs::path temporary = path.string() + ".tmp";
  const FileDescriptor fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd) throw system_error("open", temporary);
  write_all(fd.get(), header, temporary);
  for (const Planned& planned : shard.tensors) {
    const std::vector<float> values = tensors.values(*planned.tensor);
    const auto bytes =
        encode_values(planned.tensor->name, values, planned.tensor->shape.back(), planned.dtype);
    write_all(fd.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, temporary);
    wrote(planned.bytes);
  }
  if (::fsync(fd.get()) != 0) throw system_error("sync", temporary);
  fs::rename(temporary, path);
}

// What an interrupted run left is kept if it was on the way to the same checkpoint.
void prepare_folder(const fs::path& partial, const std::string& plan) {
  const fs::path file = partial / "plan.json";
  const bool same = fs::is_regular_file(file) && read_file(file, 1 << 16) == plan;
  if (!same) fs::remove_all(partial);
  fs::create_directories(partial);
  write_file_atomic(file, plan);
}

}  // namespace

ConvertReport convert_to_safetensors(const WeightFile& source, const fs::path& folder,
                                     const ConvertOptions& options) {
  if (fs::exists(folder)) throw make_error(ErrorCode::already_exists, "{} is there already", folder.string());
  const CheckpointForm form = checkpoint_form(source);
  const CheckpointTensors tensors(source, form);
  const std::vector<Shard> shards = plan_shards(tensors, options.mix);
  const std::string lineage = options.lineage.parents.empty() ? std::string() : lineage_text(options.lineage);
  std::vector<std::string> headers;
  Sha256 hash;
  for (const Shard& shard : shards) hash.update(headers.emplace_back(shard_header(shard, lineage)));
  const fs::path partial = folder.string() + ".partial";
  prepare_folder(partial, to_text(json::object{{"headers_sha256", to_hex(hash.finish())}}));
  const FileDescriptor lock(::open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || !try_lock(lock, Lock::exclusive))
    throw make_error(ErrorCode::failed_precondition, "{} is being written by another process",
                     partial.string());

  ConvertReport report;
  int64_t total = 0;
  for (const Shard& shard : shards) total += shard.bytes;
  const auto wrote = [&](int64_t bytes) {
    report.bytes += bytes;
    if (options.progress) options.progress(report.bytes, total);
  };
  for (size_t i = 0; i < shards.size(); ++i) {
    const fs::path path = partial / shards[i].name;
    if (fs::is_regular_file(path)) {
      report.resumed_at += shards[i].bytes;
      wrote(shards[i].bytes);
    } else {
      write_shard(tensors, shards[i], headers[i], path, wrote);
    }
  }
  write_index(shards, partial);
  write_file_atomic(partial / "config.json", to_text(make_config(form)));
  write_tokenizer(source, partial);
  if (!lineage.empty()) write_file_atomic(partial / kLineageFile, lineage);
  fs::remove(partial / "plan.json");
  sync_folder(partial);
  fs::rename(partial, folder);
  sync_folder(fs::absolute(folder).parent_path());
  return report;
}

}  // namespace neutrino::weights
