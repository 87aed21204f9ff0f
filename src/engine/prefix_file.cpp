#include "engine/prefix_file.h"

#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"

namespace neutrino::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are written as they stand in memory");

constexpr std::string_view kMagic = "NEUKVP\x01\n";
constexpr uint64_t kHeaderBytes = 1 << 16;  // at most

std::string_view text_of(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

Error damaged(const std::filesystem::path& path, std::string_view what) {
  return make_error(ErrorCode::data_loss, "the prefix {} is damaged: {}", path.filename().string(), what);
}

// Takes pieces off the front of a file's bytes.
class Cutter {
 public:
  Cutter(std::string_view bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}
  std::string_view take(uint64_t size) {
    if (size > bytes_.size()) throw damaged(path_, "it ends too early");
    const std::string_view piece = bytes_.substr(0, static_cast<size_t>(size));
    bytes_.remove_prefix(static_cast<size_t>(size));
    return piece;
  }
  size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  const std::filesystem::path& path_;
};

int64_t number_at(const json::object& header, std::string_view name, const std::filesystem::path& path) {
  const json::value* value = header.if_contains(name);
  if (!value || !value->is_int64() || value->get_int64() < 1) throw damaged(path, "its header");
  return value->get_int64();
}

}  // namespace

int64_t write_prefix_file(const std::filesystem::path& path, const PrefixFile& prefix, int64_t bytes_max) {
  const std::string header = to_text(json::object{{"fingerprint", prefix.fingerprint},
                                                  {"bytes_per_block", prefix.bytes_per_block},
                                                  {"blocks", prefix.blocks()}});
  const uint64_t header_bytes = header.size();
  std::string content(kMagic);
  content += text_of(&header_bytes, sizeof header_bytes);
  content += header;
  content += text_of(prefix.tokens.data(), prefix.tokens.size() * sizeof(int32_t));
  content += text_of(prefix.data.data(), prefix.data.size());
  const Sha256Digest digest = sha256(content);
  content += text_of(digest.data(), digest.size());
  if (std::ssize(content) > bytes_max)
    throw make_error(ErrorCode::resource_exhausted, "the prefix takes {} bytes, and {} are left for prefixes",
                     content.size(), bytes_max)
        .with_reason("prefix_store_full");
  write_file_atomic(path, content, 0600);
  return std::ssize(content);
}

PrefixFile read_prefix_file(const std::filesystem::path& path, int64_t bytes_max) {
  if (!std::filesystem::is_regular_file(path))
    throw make_error(ErrorCode::not_found, "there is no prefix \"{}\"", path.stem().string());
  const std::string content = read_file(path, static_cast<size_t>(bytes_max), Links::refuse);
  Cutter all(content, path);
  if (content.size() < kMagic.size() + sizeof(uint64_t) + sizeof(Sha256Digest))
    throw damaged(path, "it is too short");
  const std::string_view body = all.take(content.size() - sizeof(Sha256Digest));
  const Sha256Digest digest = sha256(body);
  if (all.take(digest.size()) != text_of(digest.data(), digest.size())) throw damaged(path, "its checksum");

  Cutter cutter(body, path);
  if (cutter.take(kMagic.size()) != kMagic) throw damaged(path, "it is no prefix");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, cutter.take(sizeof header_bytes).data(), sizeof header_bytes);
  if (header_bytes > kHeaderBytes) throw damaged(path, "its header");
  const json::value parsed = parse_json(cutter.take(header_bytes));
  const json::object* header = parsed.if_object();
  const json::value* fingerprint = header ? header->if_contains("fingerprint") : nullptr;
  if (!fingerprint || !fingerprint->is_string()) throw damaged(path, "its header");

  PrefixFile prefix{.fingerprint = std::string(fingerprint->get_string()),
                    .bytes_per_block = number_at(*header, "bytes_per_block", path)};
  const int64_t blocks = number_at(*header, "blocks", path);
  const auto tokens = checked_mul(blocks, compute::kBlockPositions);
  const auto token_bytes = tokens ? checked_mul(*tokens, int64_t{sizeof(int32_t)}) : tokens;
  const auto data_bytes = checked_mul(blocks, prefix.bytes_per_block);
  const auto sum = token_bytes && data_bytes ? checked_add(*token_bytes, *data_bytes) : std::nullopt;
  if (!sum || *sum != static_cast<int64_t>(cutter.left())) throw damaged(path, "its sizes");
  prefix.tokens.resize(static_cast<size_t>(*tokens));
  prefix.data.resize(static_cast<size_t>(*data_bytes));
  std::memcpy(prefix.tokens.data(), cutter.take(static_cast<uint64_t>(*token_bytes)).data(),
              static_cast<size_t>(*token_bytes));
  std::memcpy(prefix.data.data(), cutter.take(static_cast<uint64_t>(*data_bytes)).data(),
              static_cast<size_t>(*data_bytes));
  return prefix;
}

}  // namespace neutrino::engine
