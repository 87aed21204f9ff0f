#include "weights/convert.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <thread>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "weights/gguf_vocabulary_writer.h"
#include "weights/gguf_writer.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;
using compute::DType;

constexpr int64_t kBytesPerSync = int64_t{64} << 20;
constexpr std::string_view kScaleSuffix = ".scale";

// ---- keys

template <typename Small, typename Large>
void set_integers(GgufKeyValues& key_values, const std::string& key, const std::vector<int64_t>& values) {
  const bool small = std::ranges::all_of(values, [](int64_t v) {
    return v >= std::numeric_limits<Small>::min() && v <= std::numeric_limits<Small>::max();
  });
  if (small)
    key_values.set(key, std::vector<Small>(values.begin(), values.end()));
  else
    key_values.set(key, std::vector<Large>(values.begin(), values.end()));
}

void set_value(GgufKeyValues& key_values, const std::string& key, const MetadataValue& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    if (*integer >= 0 && *integer <= std::numeric_limits<uint32_t>::max())
      key_values.set(key, static_cast<uint32_t>(*integer));
    else
      key_values.set(key, *integer);
  } else if (const auto* number = std::get_if<double>(&value)) {
    key_values.set(key, static_cast<float>(*number));
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    key_values.set(key, *flag);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    key_values.set(key, *text);
  } else if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    set_integers<int32_t, int64_t>(key_values, key, *integers);
  } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    key_values.set(key, std::vector<float>(numbers->begin(), numbers->end()));
  } else if (const auto* flags = std::get_if<std::vector<bool>>(&value)) {
    key_values.set(key, *flags);
  } else {
    key_values.set(key, std::get<std::vector<std::string>>(value));
  }
}

// A GGUF file's keys are copied as they stand; another file's get the types that llama.cpp's converter writes, and the
// tokenizer's keys.
GgufKeyValues make_keys(const WeightFile& source, const ConvertOptions& options) {
  GgufKeyValues key_values;
  const auto* gguf = dynamic_cast<const GgufMetadata*>(&source.metadata());
  key_values.set("general.architecture",
                 std::string(source.metadata().text("general.architecture").value_or("")));
  for (const std::string& key : source.metadata().keys()) {
    if (key.starts_with("split.") || key == "general.architecture") continue;
    if (gguf)
      key_values.set(key, *gguf->find(key));
    else
      set_value(key_values, key, source.metadata().value(key));
  }
  if (!gguf) {
    set_gguf_vocabulary(key_values, source.vocabulary());
    if (const auto text = source.chat_template()) key_values.set("tokenizer.chat_template", *text);
  }
  if (options.mix) key_values.set("general.file_type", options.mix->file_type);
  key_values.set("general.quantization_version", uint32_t{2});
  if (!options.lineage.parents.empty()) {
    key_values.set("general.license", derived_license(options.lineage.parents));
    key_values.set(kLineageKey, lineage_text(options.lineage));
  }
  return key_values;
}

// ---- tensors

// What one tensor of the file is made of.
struct Output {
  TensorEntry source;
  DType dtype;
  std::vector<float> scales = {};  // one a matrix, where the source's second scale goes into the values
};

std::vector<float> scales_of(const WeightFile& source, const TensorEntry& tensor) {
  if (!tensor.name.ends_with(".weight")) return {};
  const std::string name = tensor.name.substr(0, tensor.name.size() - 7) + std::string(kScaleSuffix);
  const TensorEntry* scale = source.find(name);
  if (!scale) return {};
  return source.vector(name, scale->shape.back());
}

// With their types settled. A second scale (NVFP4's) stays a tensor beside a tensor that keeps its type, and else becomes part
// of the values.
std::vector<Output> plan_outputs(const WeightFile& source, const ConvertOptions& options) {
  std::vector<DType> types;
  if (options.mix) types = quant_plan(source.tensors(), *options.mix);
  std::vector<Output> outputs;
  std::vector<std::string> folded;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    Output output{.source = source.tensors()[i], .dtype = options.mix ? types[i] : source.tensors()[i].dtype};
    if (output.dtype != output.source.dtype) output.scales = scales_of(source, output.source);
    if (!output.scales.empty())
      folded.push_back(output.source.name.substr(0, output.source.name.size() - 7) +
                       std::string(kScaleSuffix));
    outputs.push_back(std::move(output));
  }
  std::erase_if(outputs,
                [&](const Output& o) { return std::ranges::find(folded, o.source.name) != folded.end(); });
  return outputs;
}

// The tensor with its scales multiplied in, as float32.
std::vector<float> scaled_values(const TensorEntry& tensor, const std::vector<float>& scales) {
  const int64_t columns = tensor.shape.back();
  const int64_t stride = *compute::row_bytes(tensor.dtype, columns), rows = tensor.bytes / stride;
  const int64_t rows_per_scale = rows / std::ssize(scales);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    float* row = values.data() + r * columns;
    compute::dequantize_row(tensor.dtype, tensor.data + r * stride, columns, row);
    for (int64_t c = 0; c < columns; ++c) row[c] *= scales[r / rows_per_scale];
  }
  return values;
}

void write_tensor(const WeightFile& source, const Output& output, compute::cpu::ThreadTeam& team,
                  const GgufSink& sink) {
  TensorEntry tensor = output.source;
  const TensorData data = source.read(output.source);
  tensor.data = data.data;
  std::vector<float> values;
  if (!output.scales.empty()) {
    values = scaled_values(tensor, output.scales);
    tensor.dtype = DType::f32;
    tensor.data = reinterpret_cast<const std::byte*>(values.data());
    tensor.bytes = std::ssize(values) * static_cast<int64_t>(sizeof(float));
  }
  if (tensor.dtype == output.dtype)
    sink({tensor.data, static_cast<size_t>(tensor.bytes)});
  else
    quantize_tensor(tensor, output.dtype, team, sink);
}

// ---- the file that grows

class PartialFile {
 public:
  PartialFile(const fs::path& out, std::string header, std::vector<int64_t> offsets);
  int64_t offset(size_t tensor) const { return offsets_[tensor]; }
  int64_t size() const { return offsets_.back(); }
  size_t first() const { return first_; }  // tensor that is not there yet

  void write(std::span<const std::byte> bytes);
  void end_tensor(size_t tensor);  // pads, and says so on the disk now and then
  void finish();                   // all tensors are there: the file gets its name

 private:
  void start_over();
  std::optional<size_t> find_done() const;
  void save(size_t tensors);

  fs::path out_, partial_, journal_;
  std::string header_, header_sha256_;
  std::vector<int64_t> offsets_;  // of each tensor, and the end
  FileDescriptor fd_;
  size_t first_ = 0;
  int64_t position_ = 0, synced_ = 0;
};

PartialFile::PartialFile(const fs::path& out, std::string header, std::vector<int64_t> offsets)
    : out_(out),
      partial_(out.string() + ".partial"),
      journal_(out.string() + ".partial.json"),
      header_(std::move(header)),
      header_sha256_(to_hex(sha256(header_))),
      offsets_(std::move(offsets)),
      fd_(::open(partial_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)) {
  if (!fd_) throw system_error("open", partial_);
  if (!try_lock(fd_, Lock::exclusive))
    throw make_error(ErrorCode::failed_precondition, "{} is being written by another process",
                     partial_.string());
  if (const auto done = find_done())
    first_ = *done;
  else
    start_over();
  position_ = synced_ = offsets_[first_];
  if (::ftruncate(fd_.get(), position_) != 0 || ::lseek(fd_.get(), position_, SEEK_SET) < 0)
    throw system_error("resize", partial_);
}

// How many tensors an earlier run left, if it was on the way to the same file.
std::optional<size_t> PartialFile::find_done() const {
  if (!fs::exists(journal_)) return std::nullopt;
  try {
    const json::object journal = parse_json(read_file(journal_, 1 << 16, Links::refuse)).as_object();
    const auto done = journal.at("tensors").to_number<size_t>();
    struct stat status {};
    if (journal.at("header_sha256").as_string() != header_sha256_ || done >= offsets_.size() ||
        ::fstat(fd_.get(), &status) != 0 || status.st_size < offsets_[done])
      return std::nullopt;
    return done;
  } catch (const std::exception&) {  // unreadable: begin again
    return std::nullopt;
  }
}

void PartialFile::start_over() {
  if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), 0, SEEK_SET) < 0)
    throw system_error("resize", partial_);
  write_all(fd_.get(), header_, partial_);
}

void PartialFile::write(std::span<const std::byte> bytes) {
  write_all(fd_.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, partial_);
  position_ += std::ssize(bytes);
}

void PartialFile::end_tensor(size_t tensor) {
  check(position_ <= offsets_[tensor + 1], "a tensor is as large as its header says");
  const std::vector<std::byte> padding(static_cast<size_t>(offsets_[tensor + 1] - position_));
  check(padding.size() < kGgufWriteAlignment, "a tensor is as large as its header says");
  write(padding);
  if (position_ - synced_ >= kBytesPerSync) save(tensor + 1);
}

void PartialFile::save(size_t tensors) {
  if (::fdatasync(fd_.get()) != 0) throw system_error("sync", partial_);
  write_file_atomic(journal_, to_text(json::object{{"header_sha256", header_sha256_}, {"tensors", tensors}}));
  synced_ = position_;
}

void PartialFile::finish() {
  if (::fsync(fd_.get()) != 0) throw system_error("sync", partial_);
  fs::rename(partial_, out_);
  std::error_code ignored;
  fs::remove(journal_, ignored);
  sync_folder(fs::absolute(out_).parent_path());
}

}  // namespace

ConvertReport convert_to_gguf(const WeightFile& source, const fs::path& out, const ConvertOptions& options) {
  const std::vector<Output> outputs = plan_outputs(source, options);
  std::vector<GgufTensorInfo> infos;
  for (const Output& output : outputs)
    infos.push_back({output.source.name, output.dtype, output.source.shape});
  std::string header = gguf_header(make_keys(source, options), infos);
  std::vector<int64_t> offsets{std::ssize(header)};
  for (const GgufTensorInfo& info : infos)
    offsets.push_back(offsets.back() +
                      ceil_div(gguf_tensor_bytes(info), kGgufWriteAlignment) * kGgufWriteAlignment);

  PartialFile file(out, std::move(header), offsets);
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  compute::cpu::ThreadTeam team(options.threads > 0 ? options.threads : cores);
  for (size_t i = file.first(); i < outputs.size(); ++i) {
    int64_t done = offsets[i];
    write_tensor(source, outputs[i], team, [&](std::span<const std::byte> bytes) {
      file.write(bytes);
      done += std::ssize(bytes);
      if (options.progress) options.progress(done, file.size());
    });
    file.end_tensor(i);
  }
  file.finish();
  if (options.progress) options.progress(file.size(), file.size());
  return {.bytes = file.size(), .resumed_at = file.first() > 0 ? offsets[file.first()] : 0};
}

}  // namespace neutrino::weights
