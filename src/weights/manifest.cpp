#include "weights/manifest.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '-';
}

bool is_lower_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

std::string heaviest_type(const WeightFile& file) {
  std::map<compute::DType, int64_t> bytes;
  for (const TensorEntry& tensor : file.tensors()) bytes[tensor.dtype] += tensor.bytes;
  const auto heaviest =
      std::max_element(bytes.begin(), bytes.end(), [](auto& a, auto& b) { return a.second < b.second; });
  return heaviest == bytes.end() ? "none" : std::string(compute::dtype_info(heaviest->first).name);
}

// Cannot overflow: the tensors' bytes are within one file.
int64_t count_parameters(const WeightFile& file) {
  int64_t parameters = 0;
  for (const TensorEntry& tensor : file.tensors()) {
    const auto& info = compute::dtype_info(tensor.dtype);
    parameters += tensor.bytes / info.block_bytes * info.block;
  }
  return parameters;
}

Error broken(std::string message) { return Error(ErrorCode::data_loss, std::move(message)); }

const json::value& field(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value) throw broken(fmt::format("field \"{}\" is missing", key));
  return *value;
}

std::string text_field(const json::object& object, std::string_view key) {
  const json::value& value = field(object, key);
  if (!value.is_string()) throw broken(fmt::format("field \"{}\" must be a string", key));
  return std::string(value.get_string());
}

int64_t count_field(const json::object& object, std::string_view key) {
  const json::value& value = field(object, key);
  if (!value.is_int64() || value.get_int64() < 0)
    throw broken(fmt::format("field \"{}\" must be a count", key));
  return value.get_int64();
}

const json::object& object_field(const json::object& object, std::string_view key) {
  const json::value& value = field(object, key);
  if (!value.is_object()) throw broken(fmt::format("field \"{}\" must be an object", key));
  return value.get_object();
}

void check_format(const json::object& object) {
  const int64_t format = count_field(object, "format_version");
  if (format != kManifestFormat)
    throw broken(fmt::format("format_version must be {}, got {}", kManifestFormat, format));
}

Manifest read_manifest(const ModelName& name, const json::value& value) {
  if (!value.is_object()) throw broken("it must be a JSON object");
  const json::object& object = value.get_object();
  check_format(object);
  if (text_field(object, "name") != name.text())
    throw broken(fmt::format("field \"name\" must be \"{}\" as the file's name says", name.text()));
  const json::object& blob = object_field(object, "blob");
  Manifest manifest{
      name, BlobDigest::parse(text_field(blob, "sha256")), count_field(blob, "bytes"), {}, {}, {}, {}};
  manifest.verified = text_field(blob, "verified");
  manifest.facts = {text_field(object, "architecture"), text_field(object, "quantization"),
                    text_field(object, "license"), text_field(object, "template_sha256"),
                    count_field(object, "parameters")};
  manifest.source = text_field(object, "source");
  manifest.created = text_field(object, "created");
  return manifest;
}

}  // namespace

bool ModelName::is_valid(std::string_view text) {
  constexpr size_t kLengthMax = 128;
  return !text.empty() && text.size() <= kLengthMax && text[0] != '.' &&
         std::all_of(text.begin(), text.end(), is_name_character);
}

ModelName ModelName::parse(std::string_view text) {
  if (is_valid(text)) return ModelName(std::string(text));
  throw make_error(
      ErrorCode::invalid_argument,
      "a model's name must be 1-128 letters, digits, '.', '_' or '-', with no '.' in front, got {}",
      in_quotes(text));
}

BlobDigest BlobDigest::parse(std::string_view hex) {
  if (hex.size() == 64 && std::all_of(hex.begin(), hex.end(), is_lower_hex)) return BlobDigest(hex);
  throw make_error(ErrorCode::invalid_argument, "a digest must be 64 lower-case hexadecimal digits, got {}",
                   in_quotes(hex));
}

ModelFacts read_facts(const WeightFile& file) {
  const Metadata& metadata = file.metadata();
  const auto chat_template = file.chat_template();
  return {.architecture = printable(metadata.text("general.architecture").value_or("unknown"), 64),
          .quantization = heaviest_type(file),
          .license = printable(metadata.text("general.license").value_or("unknown"), 128),
          .template_sha256 = chat_template ? to_hex(sha256(*chat_template)) : "",
          .parameters = count_parameters(file)};
}

json::object to_json(const Manifest& manifest) {
  return {{"format_version", kManifestFormat},
          {"name", manifest.name.text()},
          {"architecture", manifest.facts.architecture},
          {"quantization", manifest.facts.quantization},
          {"parameters", manifest.facts.parameters},
          {"license", manifest.facts.license},
          {"template_sha256", manifest.facts.template_sha256},
          {"source", manifest.source},
          {"created", manifest.created},
          {"blob",
           {{"sha256", manifest.digest.hex()}, {"bytes", manifest.bytes}, {"verified", manifest.verified}}}};
}

Manifest parse_manifest(const ModelName& name, std::string_view text) {
  try {
    return read_manifest(name, parse_json(text));
  } catch (const Error& error) {
    throw make_error(ErrorCode::data_loss,
                     "the manifest of model {0} is broken: {1}; `neutrino model rm {0}` removes it",
                     name.text(), error.message())
        .with_reason("broken_manifest");
  }
}

}  // namespace neutrino::weights
