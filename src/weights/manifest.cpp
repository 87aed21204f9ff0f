#include "weights/manifest.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
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

std::string optional_text(const json::object& object, std::string_view key) {
  return object.contains(key) ? text_field(object, key) : "";
}

bool flag_field(const json::object& object, std::string_view key) {
  const json::value& value = field(object, key);
  if (!value.is_bool()) throw broken(fmt::format("field \"{}\" must be true or false", key));
  return value.get_bool();
}

const json::array& array_field(const json::object& object, std::string_view key) {
  const json::value& value = field(object, key);
  if (!value.is_array()) throw broken(fmt::format("field \"{}\" must be an array", key));
  return value.get_array();
}

ModelFile read_file_entry(const json::object& object, std::string name) {
  return {.name = std::move(name),
          .digest = BlobDigest::parse(text_field(object, "sha256")),
          .bytes = count_field(object, "bytes"),
          .verified = text_field(object, "verified")};
}

// Format 1 had one file, a GGUF one, and did not say its name.
std::vector<ModelFile> read_files(const ModelName& name, const json::object& object, int64_t format) {
  if (format == 1) return {read_file_entry(object_field(object, "blob"), name.text() + ".gguf")};
  std::vector<ModelFile> files;
  for (const json::value& entry : array_field(object, "files")) {
    if (!entry.is_object()) throw broken("an entry of \"files\" must be an object");
    files.push_back(read_file_entry(entry.get_object(), text_field(entry.get_object(), "name")));
  }
  return files;
}

License read_license(const json::object& object, int64_t format) {
  License license{.id = text_field(object, "license")};
  if (format == 1) return license;
  license.name = optional_text(object, "license_name");
  license.link = optional_text(object, "license_link");
  license.gated = flag_field(object, "gated");
  return license;
}

Manifest read_manifest(const ModelName& name, const json::value& value) {
  if (!value.is_object()) throw broken("it must be a JSON object");
  const json::object& object = value.get_object();
  const int64_t format = count_field(object, "format_version");
  if (format < 1 || format > kManifestFormat)
    throw broken(fmt::format("format_version must be 1 to {}, got {}", kManifestFormat, format));
  if (text_field(object, "name") != name.text())
    throw broken(fmt::format("field \"name\" must be \"{}\" as the file's name says", name.text()));
  Manifest manifest = make_manifest(name, read_files(name, object, format));
  if (format > 1 && text_field(object, "sha256") != manifest.digest.hex())
    throw broken("field \"sha256\" does not agree with \"files\"");
  manifest.facts = {text_field(object, "architecture"), text_field(object, "quantization"),
                    text_field(object, "template_sha256"), count_field(object, "parameters"),
                    read_license(object, format)};
  manifest.source = text_field(object, "source");
  manifest.created = text_field(object, "created");
  return manifest;
}

bool is_name_part(std::string_view part) {
  return !part.empty() && part[0] != '.' && part.size() <= 255 &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= ' ' && c <= '~' && c != '\\'; });
}

// The list that stands for several files, in the form of sha256sum(1).
BlobDigest digest_of(const std::vector<ModelFile>& files) {
  if (files.size() == 1) return files[0].digest;
  Sha256 hash;
  for (const ModelFile& file : files) hash.update(fmt::format("{}  {}\n", file.digest.hex(), file.name));
  return BlobDigest(hash.finish());
}

// Sorted by name, so a file that another needs as a folder stands before it.
void check_names(const std::vector<ModelFile>& files) {
  if (files.empty() || static_cast<int64_t>(files.size()) > limits::kModelFiles)
    throw make_error(ErrorCode::invalid_argument, "a model must have 1 to {} files, got {}",
                     limits::kModelFiles, files.size());
  std::set<std::string, std::less<>> names;
  for (const ModelFile& file : files) {
    if (!is_file_name(file.name))
      throw make_error(ErrorCode::invalid_argument, "{} is not a name that a model's file may have",
                       in_quotes(file.name));
    for (auto slash = file.name.find('/'); slash != file.name.npos; slash = file.name.find('/', slash + 1))
      if (names.contains(std::string_view(file.name).substr(0, slash)))
        throw make_error(ErrorCode::invalid_argument, "{} cannot stand beside a file of its folder's name",
                         in_quotes(file.name));
    if (!names.insert(file.name).second)
      throw make_error(ErrorCode::invalid_argument, "a model has two files named {}", in_quotes(file.name));
  }
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
          .template_sha256 = chat_template ? to_hex(sha256(*chat_template)) : "",
          .parameters = count_parameters(file),
          .license = {.id = printable(metadata.text("general.license").value_or("unknown"), 128),
                      .name = printable(metadata.text("general.license.name").value_or(""), 128),
                      .link = printable(metadata.text("general.license.link").value_or(""), 256)}};
}

bool is_file_name(std::string_view text) {
  if (text.size() > limits::kModelFileNameBytes) return false;
  for (;;) {
    const auto slash = text.find('/');
    if (!is_name_part(text.substr(0, slash))) return false;
    if (slash == text.npos) return true;
    text.remove_prefix(slash + 1);
  }
}

Manifest make_manifest(const ModelName& name, std::vector<ModelFile> files) {
  std::sort(files.begin(), files.end(),
            [](const ModelFile& a, const ModelFile& b) { return a.name < b.name; });
  check_names(files);
  int64_t bytes = 0;
  for (const ModelFile& file : files) {
    const auto sum = checked_add(bytes, file.bytes);
    if (!sum) throw make_error(ErrorCode::invalid_argument, "the files of {} are too large", name.text());
    bytes = *sum;
  }
  const BlobDigest digest = digest_of(files);
  return {.name = name, .files = std::move(files), .digest = digest, .bytes = bytes};
}

json::object to_json(const ModelFacts& facts) {
  const License& license = facts.license;
  return {{"architecture", facts.architecture},
          {"quantization", facts.quantization},
          {"parameters", facts.parameters},
          {"license", license.id},
          {"license_name", license.name},
          {"license_link", license.link},
          {"license_terms", license_terms_name(license_terms(license))},
          {"gated", license.gated},
          {"template_sha256", facts.template_sha256}};
}

json::object to_json(const Manifest& manifest) {
  json::array files;
  for (const ModelFile& file : manifest.files)
    files.push_back({{"name", file.name},
                     {"sha256", file.digest.hex()},
                     {"bytes", file.bytes},
                     {"verified", file.verified}});
  json::object object{{"format_version", kManifestFormat}, {"name", manifest.name.text()}};
  for (const auto& field : to_json(manifest.facts)) object.insert(field);
  object["source"] = manifest.source;
  object["created"] = manifest.created;
  object["sha256"] = manifest.digest.hex();
  object["bytes"] = manifest.bytes;
  object["files"] = std::move(files);
  return object;
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
