// What `neutrino apply` takes and `neutrino export` gives: YAML documents of a kind and the fields that the API has for it.
//
//   kind: Endpoint
//   name: chat
//   deployments:
//     - model: smollm2-135m-instruct
//
// A document says all of an object: what is not in it has its default. Fields are checked here, against the same structs that the
// API reads, so that a misspelt one is told with its line before anything is sent.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/terminal/yaml.h"

namespace neutrino::cli {

struct DocumentKind {
  std::string_view name;        // "Endpoint"
  std::string_view collection;  // "endpoints", in the API's paths
  std::string_view key;         // the field that it is called by
  // The document with all defaults, as the API would show what can be written. Throws Error{invalid_argument} with the field's path.
  json::object (*complete)(const json::value& fields);
  // The same of an object that the API showed: without what the API adds.
  json::object (*writable)(const json::value& shown);
  bool has_put = true;  // keys are made with POST, and changed with PATCH
};

// In the order in which they are applied: what others name comes first.
std::span<const DocumentKind> document_kinds();
// By name ("Endpoint"), in any case, or by collection ("endpoints"). Throws Error{invalid_argument} that lists them.
const DocumentKind& find_kind(std::string_view name);

struct Document {
  const DocumentKind* kind = nullptr;
  std::string name;
  std::string place;    // "cloud.yaml:3:1: ", for errors
  json::object fields;  // as written, without `kind`
  YamlDocument source;
  std::string file;
};

// Throws Error{invalid_argument} as "FILE:LINE:COLUMN: what is wrong".
std::vector<Document> read_documents(const std::string& text, const std::string& file);

// An error about a field of it (by its param), with the field's place.
Error placed(const Error& error, const Document& document);

// What a document has to say of an object so that apply makes the same one: `kind` and all fields that are not as by default.
json::object to_document(const DocumentKind& kind, const json::value& shown);

}  // namespace neutrino::cli
