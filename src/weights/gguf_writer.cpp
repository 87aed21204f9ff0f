#include "weights/gguf_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "base/checked.h"
#include "base/limits.h"
#include "base/random.h"
#include "weights/gguf_dtypes.h"

namespace neutrino::weights {
namespace {

constexpr std::string_view kAlignmentKey = "general.alignment";

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out += text;
}

void append_bytes(std::string& out, std::span<const std::byte> bytes) {
  out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void check_text(std::string_view key, std::string_view text) {
  if (text.size() > size_t{limits::kGgufStringBytes})
    throw make_error(ErrorCode::invalid_argument, "a text of {} must be at most {} bytes long, got {}", key,
                     limits::kGgufStringBytes, text.size());
}

int64_t padded(int64_t bytes) {
  const auto end = checked_align(static_cast<uint64_t>(bytes), uint64_t{kGgufWriteAlignment});
  check(end.has_value(), "the sizes of tensors are checked before they are padded");
  return static_cast<int64_t>(*end);
}

void append_tensor_info(std::string& out, const GgufTensorInfo& tensor, int64_t offset) {
  append_text(out, tensor.name);
  append(out, static_cast<uint32_t>(tensor.shape.size()));
  for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
    append(out, static_cast<uint64_t>(*size));
  append(out, gguf_dtype_number(tensor.dtype));
  append(out, static_cast<uint64_t>(offset));
}

void check_names(std::span<const GgufTensorInfo> tensors) {
  if (tensors.empty() || tensors.size() > size_t{limits::kGgufTensors})
    throw make_error(ErrorCode::invalid_argument, "a GGUF file must hold 1-{} tensors, got {}",
                     limits::kGgufTensors, tensors.size());
  std::set<std::string_view> names;
  for (const GgufTensorInfo& tensor : tensors)
    if (!names.insert(tensor.name).second)
      throw make_error(ErrorCode::invalid_argument, "tensor {} is there twice", in_quotes(tensor.name));
}

// A file that is not there yet: removed again unless it is kept.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target)
      : path_(target.parent_path() /
              fmt::format(".{}.{:016x}.tmp", target.filename().string(), system_entropy())),
        fd_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644)) {
    if (!fd_) throw system_error("create", path_);
  }
  ~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    write_all(fd_.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path_);
  }
  void keep_as(const std::filesystem::path& target) {
    if (::fsync(fd_.get()) != 0) throw system_error("sync", path_);
    if (::rename(path_.c_str(), target.c_str()) != 0) throw system_error("rename to", target);
    path_.clear();
    sync_folder(target.parent_path());
  }

 private:
  std::filesystem::path path_;  // empty: renamed
  FileDescriptor fd_;
};

void write_tensor(TemporaryFile& file, const GgufTensorInfo& tensor, size_t index, const GgufSource& source) {
  const int64_t bytes = gguf_tensor_bytes(tensor);
  int64_t written = 0;
  source(index, [&](std::span<const std::byte> piece) {
    written += static_cast<int64_t>(piece.size());
    check(written <= bytes, "a source gives more bytes than the tensor has");
    file.write(piece);
  });
  check(written == bytes, "a source gives fewer bytes than the tensor has");
  static constexpr std::byte kZeros[kGgufWriteAlignment] = {};
  file.write(std::span(kZeros).first(static_cast<size_t>(padded(bytes) - bytes)));
}

}  // namespace

std::string& GgufKeyValues::payload_of(std::string_view key) {
  if (!is_name(key) || key.size() > size_t{limits::kGgufKeyBytes})
    throw make_error(ErrorCode::invalid_argument, "a key must be 1-{} printable ASCII characters, got {}",
                     limits::kGgufKeyBytes, in_quotes(key));
  for (auto& [name, payload] : entries_)
    if (name == key) return payload.clear(), payload;
  return entries_.emplace_back(std::string(key), std::string()).second;
}

void GgufKeyValues::put(std::string_view key, GgufType type, std::span<const std::byte> bytes) {
  std::string& payload = payload_of(key);
  append(payload, static_cast<uint32_t>(type));
  append_bytes(payload, bytes);
}

void GgufKeyValues::put_array(std::string_view key, GgufType element, size_t count,
                              std::span<const std::byte> bytes) {
  if (count > size_t{limits::kGgufArrayElements})
    throw make_error(ErrorCode::invalid_argument, "the array {} must have at most {} elements, got {}", key,
                     limits::kGgufArrayElements, count);
  std::string& payload = payload_of(key);
  append(payload, static_cast<uint32_t>(GgufType::array));
  append(payload, static_cast<uint32_t>(element));
  append<uint64_t>(payload, count);
  append_bytes(payload, bytes);
}

void GgufKeyValues::set(std::string_view key, std::string_view text) {
  check_text(key, text);
  std::string bytes;
  append_text(bytes, text);
  put(key, GgufType::string, std::as_bytes(std::span(bytes)));
}

void GgufKeyValues::set(std::string_view key, std::span<const std::string> texts) {
  std::string bytes;
  for (const std::string& text : texts) check_text(key, text), append_text(bytes, text);
  put_array(key, GgufType::string, texts.size(), std::as_bytes(std::span(bytes)));
}

void GgufKeyValues::set(std::string_view key, const std::vector<bool>& values) {
  const std::vector<uint8_t> bytes(values.begin(), values.end());
  put_array(key, GgufType::boolean, bytes.size(), std::as_bytes(std::span(bytes)));
}

void GgufKeyValues::set(std::string_view key, const GgufValue& value) {
  if (key == kAlignmentKey) return;
  if (value.type == GgufType::array)
    put_array(key, value.element, static_cast<size_t>(value.count), value.bytes);
  else if (value.type == GgufType::string)
    set(key, std::string_view(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size()));
  else
    put(key, value.type, value.bytes);
}

void GgufKeyValues::set_integer(std::string_view key, int64_t value) {
  if (value >= 0 && value <= UINT32_MAX) return set(key, static_cast<uint32_t>(value));
  if (value >= INT32_MIN && value < 0) return set(key, static_cast<int32_t>(value));
  set(key, value);
}

void GgufKeyValues::set_integers(std::string_view key, const std::vector<int64_t>& values) {
  if (std::ranges::all_of(values, [](int64_t v) { return v >= INT32_MIN && v <= INT32_MAX; }))
    set(key, std::vector<int32_t>(values.begin(), values.end()));
  else
    set(key, std::span<const int64_t>(values));
}

void GgufKeyValues::set(std::string_view key, const MetadataValue& value) {
  if (key == kAlignmentKey) return;
  if (const auto* integer = std::get_if<int64_t>(&value))
    set_integer(key, *integer);
  else if (const auto* number = std::get_if<double>(&value))
    set(key, static_cast<float>(*number));
  else if (const auto* integers = std::get_if<std::vector<int64_t>>(&value))
    set_integers(key, *integers);
  else if (const auto* numbers = std::get_if<std::vector<double>>(&value))
    set(key, std::vector<float>(numbers->begin(), numbers->end()));
  else if (const auto* boolean = std::get_if<bool>(&value))
    set(key, *boolean);
  else if (const auto* booleans = std::get_if<std::vector<bool>>(&value))
    set(key, *booleans);
  else if (const auto* text = std::get_if<std::string>(&value))
    set(key, std::string_view(*text));
  else
    set(key, std::get<std::vector<std::string>>(value));
}

bool GgufKeyValues::has(std::string_view key) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](auto& entry) { return entry.first == key; });
}

void GgufKeyValues::erase(std::string_view key) {
  std::erase_if(entries_, [&](const auto& entry) { return entry.first == key; });
}

int64_t gguf_tensor_bytes(const GgufTensorInfo& tensor) {
  if (!is_name(tensor.name) || tensor.name.size() > size_t{limits::kGgufNameBytes})
    throw make_error(ErrorCode::invalid_argument,
                     "a tensor name must be 1-{} printable ASCII characters, got {}", limits::kGgufNameBytes,
                     in_quotes(tensor.name));
  const bool has_shape = !tensor.shape.empty() && tensor.shape.size() <= size_t{limits::kTensorDimensions} &&
                         std::ranges::all_of(tensor.shape, [](int64_t size) { return size > 0; });
  const auto bytes = has_shape ? compute::tensor_bytes(tensor.dtype, tensor.shape) : std::nullopt;
  if (!bytes)
    throw make_error(
        ErrorCode::invalid_argument,
        "tensor {} of shape {} cannot be written as {}: it must have 1-{} dimensions and rows of "
        "whole quant blocks of {} weights",
        in_quotes(tensor.name), shape_text(tensor.shape), compute::dtype_info(tensor.dtype).name,
        limits::kTensorDimensions, compute::dtype_info(tensor.dtype).block);
  return *bytes;
}

std::string gguf_header(const GgufKeyValues& key_values, std::span<const GgufTensorInfo> tensors) {
  check_names(tensors);
  check(!key_values.has(kAlignmentKey), "general.alignment is not the caller's to set");
  std::string out = "GGUF";
  append<uint32_t>(out, 3);
  append<uint64_t>(out, tensors.size());
  append<uint64_t>(out, key_values.entries_.size());
  for (const auto& [key, payload] : key_values.entries_) {
    append_text(out, key);
    out += payload;
  }
  std::optional<int64_t> offset = 0;
  for (const GgufTensorInfo& tensor : tensors) {
    const int64_t bytes = gguf_tensor_bytes(tensor);
    append_tensor_info(out, tensor, *offset);
    offset = bytes > INT64_MAX - kGgufWriteAlignment ? std::nullopt : checked_add(*offset, padded(bytes));
    if (!offset)
      throw make_error(ErrorCode::invalid_argument, "the tensors are together larger than a file can be");
  }
  out.resize(static_cast<size_t>(padded(static_cast<int64_t>(out.size()))));
  return out;
}

void write_gguf(const std::filesystem::path& path, const GgufKeyValues& key_values,
                std::span<const GgufTensorInfo> tensors, const GgufSource& source) {
  const std::string header = gguf_header(key_values, tensors);
  TemporaryFile file(path);
  file.write(std::as_bytes(std::span(header)));
  for (size_t i = 0; i < tensors.size(); ++i) write_tensor(file, tensors[i], i, source);
  file.keep_as(path);
}

}  // namespace neutrino::weights
