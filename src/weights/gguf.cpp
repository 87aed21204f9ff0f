#include "weights/gguf.h"

#include <algorithm>
#include <bit>
#include <map>

#include "base/checked.h"
#include "base/limits.h"
#include "weights/gguf_dtypes.h"
#include "weights/gguf_metadata.h"
#include "weights/gguf_split.h"
#include "weights/gguf_vocabulary.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using compute::DType;

struct Header {
  uint32_t version;
  uint64_t tensors;
  uint64_t metadata_entries;
};

// A tensor info takes at least its name's length, one character, one dimension, its type and its offset.
constexpr uint64_t kTensorInfoBytesMin = 8 + 1 + 4 + 8 + 4 + 8;
constexpr uint64_t kMetadataEntryBytesMin = 8 + 1 + 4 + 1;

// No array is sized by a count that the rest of the file has no room for.
void check_count(std::string_view what, uint64_t count, int64_t limit, uint64_t entry_bytes_min,
                 const Reader& reader) {
  if (count > uint64_t(limit))
    throw refuse("count_limit", "the number of {} must be at most {}, got {}", what, limit, count);
  if (count > reader.remaining() / entry_bytes_min)
    throw refuse("count_room", "the header counts {} {}, but only {} bytes follow it", count, what,
                 reader.remaining());
}

uint32_t read_version(Reader& reader) {
  const auto version = reader.number<uint32_t>("version");
  if (version == 2 || version == 3) return version;
  if (version == 1)
    throw Error(ErrorCode::unimplemented, "GGUF version 1 is not read: convert the file to version 3")
        .with_reason("version");
  if (const auto swapped = __builtin_bswap32(version); swapped >= 1 && swapped <= 3)
    throw make_error(ErrorCode::unimplemented,
                     "big-endian GGUF (version {}) is not read: convert the file to little-endian", swapped)
        .with_reason("version");
  throw refuse("version", "the GGUF version must be 2 or 3, got {}", version);
}

Header read_header(Reader& reader) {
  const auto magic = reader.take(4, "magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    throw refuse("magic", "a GGUF file must begin with \"GGUF\"");
  Header header{};
  header.version = read_version(reader);
  header.tensors = reader.number<uint64_t>("tensor count");
  header.metadata_entries = reader.number<uint64_t>("metadata count");
  check_count("metadata entries", header.metadata_entries, limits::kGgufMetadataEntries,
              kMetadataEntryBytesMin, reader);
  check_count("tensors", header.tensors, limits::kGgufTensors, kTensorInfoBytesMin, reader);
  return header;
}

uint64_t read_alignment(const GgufMetadata& metadata) {
  const auto alignment = static_cast<uint64_t>(metadata.integer("general.alignment").value_or(32));
  if (!std::has_single_bit(alignment) || alignment < uint64_t{limits::kGgufAlignmentMin} ||
      alignment > uint64_t{limits::kGgufAlignment})
    throw refuse("alignment", "general.alignment must be a power of two from {} to {}, got {}",
                 limits::kGgufAlignmentMin, limits::kGgufAlignment, static_cast<int64_t>(alignment));
  return alignment;
}

DType read_dtype(Reader& reader, std::string_view tensor) {
  const auto number = reader.number<uint32_t>("tensor type");
  if (const auto dtype = gguf_dtype(number)) return *dtype;
  throw make_error(ErrorCode::unimplemented, "tensor {} has type {}, which is not read; read are {}",
                   in_quotes(tensor), gguf_dtype_text(number), gguf_dtype_names())
      .with_reason("tensor_type");
}

// Outermost first, as the rest of neutrino counts; the file has the innermost first.
std::vector<int64_t> read_shape(Reader& reader, std::string_view tensor) {
  const auto dimensions = reader.number<uint32_t>("number of dimensions");
  if (dimensions < 1 || dimensions > uint32_t{limits::kTensorDimensions})
    throw refuse("dimensions", "tensor {} must have 1-{} dimensions, got {}", in_quotes(tensor),
                 limits::kTensorDimensions, dimensions);
  std::vector<int64_t> shape(dimensions);
  for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
    *size = reader.number<int64_t>("dimension");
    if (*size < 1)
      throw refuse("dimension", "a dimension of tensor {} must be 1 to 2^63 - 1, got {}", in_quotes(tensor),
                   static_cast<uint64_t>(*size));
  }
  return shape;
}

int64_t bytes_of(const TensorEntry& tensor) {
  const auto bytes = compute::tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes)
    throw refuse("tensor_size",
                 "tensor {} of shape {} has no size: its rows must be whole quant blocks of {} {} weights",
                 in_quotes(tensor.name), shape_text(tensor.shape), compute::dtype_info(tensor.dtype).block,
                 compute::dtype_info(tensor.dtype).name);
  return *bytes;
}

struct TensorInfo {
  TensorEntry entry;
  uint64_t offset;  // from the start of the data section
};

TensorInfo read_tensor_info(Reader& reader) {
  TensorInfo info{};
  info.entry.name = reader.string(limits::kGgufNameBytes, "tensor name");
  if (!is_name(info.entry.name))
    throw refuse("tensor_name", "a tensor name must be printable ASCII without spaces, got {}",
                 in_quotes(info.entry.name));
  info.entry.shape = read_shape(reader, info.entry.name);
  info.entry.dtype = read_dtype(reader, info.entry.name);
  info.entry.bytes = bytes_of(info.entry);
  info.offset = reader.number<uint64_t>("tensor offset");
  return info;
}

// Gives the entry its bytes in `data`, the part of the file behind the padding.
void place(TensorInfo& info, std::span<const std::byte> data, uint64_t alignment) {
  if (info.offset % alignment != 0)
    throw refuse("tensor_alignment", "the offset of tensor {} must be a multiple of {}, got {}",
                 in_quotes(info.entry.name), alignment, info.offset);
  const auto end = checked_add(info.offset, static_cast<uint64_t>(info.entry.bytes));
  if (!end || *end > data.size())
    throw refuse("tensor_range",
                 "tensor {} of {} bytes at offset {} lies outside of the data, which has {} bytes",
                 in_quotes(info.entry.name), info.entry.bytes, info.offset, data.size());
  info.entry.data = data.data() + info.offset;
}

// The tensors fill the data one behind the other, with nothing between but padding, and nothing behind: a file whose counts or
// offsets are wrong shows it here, and no second file hides behind the first.
void check_layout(std::span<const TensorEntry> tensors, std::span<const std::byte> data, uint64_t alignment) {
  std::vector<const TensorEntry*> order;
  for (const TensorEntry& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->data < b->data; });
  const auto refuse_gap = [](int64_t bytes, int64_t offset) {
    throw refuse("unused_bytes", "{} bytes at offset {} of the data belong to no tensor", bytes, offset);
  };
  int64_t end = 0;
  for (const TensorEntry* tensor : order) {
    const int64_t offset = tensor->data - data.data();
    if (offset < end)
      throw refuse("tensor_overlap", "tensor {} overlaps the one before it", in_quotes(tensor->name));
    if (offset - end >= static_cast<int64_t>(alignment)) refuse_gap(offset - end, end);
    end = offset + tensor->bytes;
  }
  const int64_t rest = static_cast<int64_t>(data.size()) - end;
  if (rest >= static_cast<int64_t>(alignment)) refuse_gap(rest, end);
}

class GgufFile final : public WeightFile {
 public:
  GgufFile(const std::filesystem::path& path, MappedFile file) : path_(path), file_(std::move(file)) {
    parse(file_.bytes());
  }
  GgufFile(const std::filesystem::path& path, std::span<const std::byte> bytes) : path_(path) {
    parse(bytes);
  }

  const std::filesystem::path& path() const override { return path_; }
  std::string_view format() const override { return version_ == 2 ? "gguf v2" : "gguf v3"; }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const TensorEntry> tensors() const override { return tensors_; }
  const TensorEntry* find(std::string_view name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }
  void release_pages() const override { file_.release_pages(); }
  tokenizer::Vocabulary vocabulary() const override { return gguf_vocabulary(metadata_); }
  std::optional<std::string> chat_template() const override {
    const auto text = metadata_.text("tokenizer.chat_template");
    return text ? std::optional<std::string>(*text) : std::nullopt;
  }

 private:
  void parse(std::span<const std::byte> bytes) {
    Reader reader(bytes);
    const Header header = read_header(reader);
    version_ = header.version;
    metadata_ = GgufMetadata::parse(reader, header.metadata_entries);
    if (header.tensors == 0 &&
        !metadata_.has("split.count"))  // the first part of a split set may hold keys only
      throw refuse("no_tensors", "the file holds no tensors");
    const uint64_t alignment = read_alignment(metadata_);
    std::vector<TensorInfo> infos;
    infos.reserve(header.tensors);
    for (uint64_t i = 0; i < header.tensors; ++i) infos.push_back(read_tensor_info(reader));
    const auto data = data_section(bytes, reader.offset(), alignment);
    place_all(infos, data, alignment);
    index_names();
    check_layout(tensors_, data, alignment);
  }

  static std::span<const std::byte> data_section(std::span<const std::byte> bytes, uint64_t header_end,
                                                 uint64_t alignment) {
    const auto start = checked_align(header_end, alignment);
    return start && *start <= bytes.size() ? bytes.subspan(*start) : std::span<const std::byte>();
  }

  void place_all(std::vector<TensorInfo>& infos, std::span<const std::byte> data, uint64_t alignment) {
    tensors_.reserve(infos.size());
    for (TensorInfo& info : infos) {
      place(info, data, alignment);
      tensors_.push_back(std::move(info.entry));
    }
  }

  void index_names() {
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (!by_name_.emplace(tensors_[i].name, i).second)
        throw refuse("duplicate_tensor", "the file has tensor {} twice", in_quotes(tensors_[i].name));
  }

  std::filesystem::path path_;
  MappedFile file_;  // empty when parsed from memory
  uint32_t version_ = 0;
  GgufMetadata metadata_;
  std::vector<TensorEntry> tensors_;            // in the file's order
  std::map<std::string_view, size_t> by_name_;  // keys are views of tensors_
};

}  // namespace

std::unique_ptr<WeightFile> open_gguf(const std::filesystem::path& path, MappedFile file, Links links) {
  auto first = std::make_unique<GgufFile>(path, std::move(file));
  if (!is_gguf_part(*first)) return first;
  std::vector<std::unique_ptr<WeightFile>> parts;
  for (const std::filesystem::path& part : gguf_part_paths(path, *first)) {
    if (part.filename() == path.filename())
      parts.push_back(std::move(first));
    else
      parts.push_back(std::make_unique<GgufFile>(part, MappedFile::open(part, links)));
  }
  return join_gguf_parts(path, std::move(parts));
}

std::unique_ptr<WeightFile> parse_gguf(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  return std::make_unique<GgufFile>(path, bytes);
}

}  // namespace neutrino::weights
