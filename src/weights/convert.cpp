#include "weights/convert.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <thread>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "weights/derived_file.h"
#include "weights/gguf_vocabulary_writer.h"
#include "weights/gguf_writer.h"

namespace neutrino::weights {
namespace {

namespace fs = std::filesystem;
using compute::DType;

constexpr int64_t kBytesPerSync = int64_t{64} << 20;

// ---- keys

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
      key_values.set(key, source.metadata().value(key));
  }
  if (!gguf) {
    set_gguf_vocabulary(key_values, source.vocabulary());
    if (const auto text = source.chat_template()) key_values.set("tokenizer.chat_template", *text);
  }
  if (!options.checkpoint_config.empty()) key_values.set(kCheckpointConfigKey, options.checkpoint_config);
  if (options.mix) key_values.set("general.file_type", options.mix->file_type);
  key_values.set("general.quantization_version", uint32_t{2});
  if (!options.lineage.parents.empty()) {
    key_values.set("general.license", derived_license(options.lineage.parents));
    key_values.set(kLineageKey, lineage_text(options.lineage));
  }
  return key_values;
}

// ---- tensors

// Tensors that would lose a second scale beside them (NVFP4's) as they change their type, with the scale multiplied in.
std::map<std::string, DerivedFile::Maker> folded_scales(const WeightFile& source, const QuantMix* mix) {
  std::map<std::string, DerivedFile::Maker> makers;
  for (const TensorEntry& tensor : source.tensors())
    if (mix && tensor.dtype == DType::nvfp4)
      makers[tensor.name] = [&source, &tensor] { return read_values(source, tensor); };
  return makers;
}

std::vector<GgufTensorInfo> plan_tensors(const WeightFile& source, const QuantMix* mix) {
  std::vector<DType> types;
  if (mix) types = quant_plan(source.tensors(), *mix);
  std::vector<GgufTensorInfo> infos;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorEntry& tensor = source.tensors()[i];
    infos.push_back({tensor.name, mix ? types[i] : tensor.dtype, tensor.shape});
  }
  return infos;
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
  const DerivedFile file(source, folded_scales(source, options.mix), DerivedTypes::float32);
  const std::vector<GgufTensorInfo> infos = plan_tensors(file, options.mix);
  std::string header = gguf_header(make_keys(source, options), infos);
  std::vector<int64_t> offsets{std::ssize(header)};
  for (const GgufTensorInfo& info : infos)
    offsets.push_back(offsets.back() +
                      ceil_div(gguf_tensor_bytes(info), kGgufWriteAlignment) * kGgufWriteAlignment);

  PartialFile partial(out, std::move(header), offsets);
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  compute::cpu::ThreadTeam team(options.threads > 0 ? options.threads : cores);
  for (size_t i = partial.first(); i < infos.size(); ++i) {
    int64_t done = offsets[i];
    quantize_tensor(file, file.tensors()[i], infos[i].dtype, team, [&](std::span<const std::byte> bytes) {
      partial.write(bytes);
      done += std::ssize(bytes);
      if (options.progress) options.progress(done, partial.size());
    });
    partial.end_tensor(i);
  }
  partial.finish();
  if (options.progress) options.progress(partial.size(), partial.size());
  return {.bytes = partial.size(), .resumed_at = partial.first() > 0 ? offsets[partial.first()] : 0};
}

}  // namespace neutrino::weights
