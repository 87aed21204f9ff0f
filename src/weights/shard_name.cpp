#include "weights/shard_name.h"

#include <fmt/format.h>

#include <charconv>

#include "base/limits.h"

namespace neutrino::weights {
namespace {

std::optional<int64_t> five_digits(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return text.size() == 5 && error == std::errc() && end == text.data() + 5 ? std::optional(number)
                                                                            : std::nullopt;
}

}  // namespace

std::string ShardName::file(int64_t other) const {
  return fmt::format("{}-{:05}-of-{:05}{}", stem, other, count, extension);
}

std::optional<ShardName> shard_name(std::string_view file) {
  const auto dot = file.rfind('.');
  if (dot == file.npos || dot < 16) return std::nullopt;  // "m-00001-of-00002"
  const std::string_view stem = file.substr(0, dot),
                         tail = stem.substr(stem.size() - 15);  // "-00001-of-00002"
  const auto number = five_digits(tail.substr(1, 5)), count = five_digits(tail.substr(10, 5));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !number || !count || *number < 1 || *number > *count ||
      *count > limits::kShards)
    return std::nullopt;
  return ShardName{std::string(stem.substr(0, stem.size() - 15)), std::string(file.substr(dot)), *number,
                   *count};
}

std::optional<ShardName> gguf_shard_name(std::string_view file) {
  auto name = shard_name(file);
  return name && name->extension == ".gguf" ? name : std::nullopt;
}

}  // namespace neutrino::weights
