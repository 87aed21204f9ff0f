// neutrino apply -f FILE: makes what is there equal to what a file says. neutrino export: such a file of what is there.
//
// The control plane itself says what each document would lead to (a dry run), and what differs from that now is what will change; so
// the same file applied twice changes nothing the second time. Each write is conditional on the etag that was compared with.

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include "base/file.h"
#include "cli/cloud_command.h"
#include "cli/command.h"
#include "cli/documents.h"
#include "cli/terminal/diff.h"

namespace neutrino::cli {
namespace {

constexpr size_t kFileBytes = 8 << 20;

struct ApplyOptions {
  std::vector<std::string> files;
  bool dry_run = false, diff = false;
};

struct Outcome {
  std::string action;  // "created", "updated", "unchanged"
  std::vector<Difference> changes;
  std::string key;      // of a new API key: shown this once
  std::string message;  // why a dry run could not say more
};

std::string read_source(const std::string& file) {
  if (file != "-") return read_file(file, kFileBytes);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

std::vector<Document> read_all(const ApplyOptions& options) {
  std::vector<Document> all;
  for (const std::string& file : options.files)
    for (Document& document : read_documents(read_source(file), file == "-" ? "standard input" : file))
      all.push_back(std::move(document));
  std::stable_sort(all.begin(), all.end(),
                   [](const Document& left, const Document& right) { return left.kind < right.kind; });
  return all;
}

// ---- one document

class Application {
 public:
  Application(Cloud& cloud, const Document& document, bool dry_run)
      : client_(cloud.client), document_(document), kind_(*document.kind), dry_run_(dry_run) {}

  Outcome run() {
    const auto there = client_.find(path());
    const json::object body = body_of();
    if (kind_.collection == "secrets") return secret(there.has_value(), body);
    return there ? update(*there, body) : create(body);
  }

 private:
  std::string path() const { return item_path(kind_.collection, document_.name); }

  // People name members by address and keys by name; the API wants ids.
  json::object body_of() {
    json::object body = document_.fields;
    if (kind_.name == "Key" && text_at(body, "member").find('@') != std::string::npos)
      body["member"] = id_of("members", text_at(body, "member"));
    const std::string subject = text_at(body, "subject"), subject_id = text_at(body, "subject_id");
    if (kind_.name == "Budget" && !subject_id.empty())
      body["subject_id"] = id_of(subject == "key" ? "keys" : "members", subject_id);
    return body;
  }
  std::string id_of(std::string_view collection, const std::string& name) {
    const auto found = client_.find(item_path(collection, name));
    if (!found) throw make_error(ErrorCode::not_found, "there is no \"{}\" among the {}", name, collection);
    return text_at(*found, "id");
  }

  Outcome create(const json::object& body) {
    const json::value made = kind_.has_put ? client_.write("PUT", path(), body, {.dry_run = dry_run_})
                                           : client_.write("POST", "/" + std::string(kind_.collection), body,
                                                           {.dry_run = dry_run_});
    Outcome outcome{.action = "created",
                    .changes = differences(kind_.complete(json::object()), kind_.writable(made))};
    for (Difference& change : outcome.changes)
      change.from = nullptr;  // of a new one, what is not as by default
    if (!kind_.has_put && !dry_run_) outcome.key = text_at(made, "key");
    return outcome;
  }

  Outcome update(const json::value& there, const json::object& body) {
    const std::string_view method = kind_.has_put ? "PUT" : "PATCH";
    const json::value sent = kind_.has_put ? json::value(body) : json::value(kind_.complete(body));
    WriteOptions options{.dry_run = true, .etag = integer_at(there, "etag")};
    const json::value after = client_.write(method, path(), sent, options);
    Outcome outcome{.action = "unchanged",
                    .changes = differences(kind_.writable(there), kind_.writable(after))};
    if (outcome.changes.empty()) return outcome;
    outcome.action = "updated";
    if (options.dry_run = dry_run_; !dry_run_) client_.write(method, path(), sent, options);
    return outcome;
  }

  // Its value cannot be compared: it is set each time that the file has one.
  Outcome secret(bool is_there, const json::object& body) {
    if (!body.contains("value")) {
      if (is_there) return {.action = "unchanged"};
      throw make_error(ErrorCode::invalid_argument,
                       "secret {} is not there yet, and the file has no value for it", document_.name);
    }
    client_.write("PUT", path(), body, {.dry_run = dry_run_});
    return {.action = is_there ? "updated" : "created"};
  }

  CloudClient& client_;
  const Document& document_;
  const DocumentKind& kind_;
  const bool dry_run_;
};

Style style_of(std::string_view action) {
  return action == "created" ? Style::good : action == "updated" ? Style::warning : Style::dim;
}

void print_outcome(const Cloud& cloud, const ApplyOptions& options, const Document& document,
                   const Outcome& outcome) {
  const bool would = options.dry_run && outcome.action != "unchanged";
  std::string name(document.kind->name);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  fmt::print("{} {}\n", harmless(fmt::format("{}/{}", name, document.name)),
             styled((would ? "would be " : "") + outcome.action, style_of(outcome.action), cloud.screen));
  if (!outcome.message.empty()) fmt::print("    not checked further: {}\n", harmless(outcome.message));
  if (options.diff) fmt::print("{}", text_of(outcome.changes, cloud.screen));
  if (!outcome.key.empty()) fmt::print("    its key, shown this once: {}\n", harmless(outcome.key));
}

json::object outcome_json(const Document& document, const Outcome& outcome) {
  json::array changes;
  for (const Difference& change : outcome.changes)
    changes.push_back({{"path", change.path}, {"from", change.from}, {"to", change.to}});
  json::object result{{"kind", document.kind->name},
                      {"name", document.name},
                      {"action", outcome.action},
                      {"changes", std::move(changes)}};
  if (!outcome.key.empty()) result["key"] = outcome.key;
  return result;
}

// In a dry run a document may name what one before it would have made.
Outcome outcome_of(Cloud& cloud, const ApplyOptions& options, const Document& document,
                   bool others_are_missing) {
  try {
    return Application(cloud, document, options.dry_run).run();
  } catch (const Error& error) {
    const bool may_be_missing =
        error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::not_found;
    if (options.dry_run && others_are_missing && may_be_missing)
      return {.action = "created", .message = error.message()};
    throw placed(error, document);
  }
}

int run_apply_files(Cloud& cloud, const ApplyOptions& options) {
  json::array items;
  bool others_are_missing = false;
  for (const Document& document : read_all(options)) {
    const Outcome outcome = outcome_of(cloud, options, document, others_are_missing);
    others_are_missing = others_are_missing || outcome.action == "created";
    if (cloud.as_json)
      items.push_back(outcome_json(document, outcome));
    else
      print_outcome(cloud, options, document, outcome), std::fflush(stdout);
  }
  if (cloud.as_json) print_json({{"items", std::move(items)}});
  return 0;
}

// ---- export

struct ExportOptions {
  std::vector<std::string> what;
};

// "endpoint", "endpoint/chat"; nothing: all kinds.
std::vector<json::value> find_objects(Cloud& cloud, const DocumentKind& kind, const std::string& name) {
  if (!name.empty()) return {cloud.client.get(item_path(kind.collection, name))};
  const json::array items = cloud.client.list("/" + std::string(kind.collection)).items;
  return {items.begin(), items.end()};
}

void export_kind(Cloud& cloud, const DocumentKind& kind, const std::string& name, json::array& documents) {
  for (const json::value& object : find_objects(cloud, kind, name))
    documents.push_back(to_document(kind, object));
}

// What this caller may not see is left out of an export of everything.
void export_all(Cloud& cloud, json::array& documents) {
  for (const DocumentKind& kind : document_kinds()) {
    try {
      export_kind(cloud, kind, "", documents);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::permission_denied) throw;
      fmt::print(stderr, "note: {} are left out: {}\n", kind.collection, harmless(error.message()));
    }
  }
}

int run_export_objects(Cloud& cloud, const ExportOptions& options) {
  json::array documents;
  for (const std::string& what : options.what) {
    const size_t slash = what.find('/');
    export_kind(cloud, find_kind(what.substr(0, slash)), slash == what.npos ? "" : what.substr(slash + 1),
                documents);
  }
  if (options.what.empty()) export_all(cloud, documents);
  if (cloud.as_json) return print_json({{"items", std::move(documents)}}), 0;
  for (size_t i = 0; i < documents.size(); ++i)
    fmt::print("{}{}", i > 0 ? "---\n" : "", to_yaml(documents[i]));
  return 0;
}

}  // namespace

int run_apply(int argc, char** argv) {
  CloudCommand command(
      "apply",
      "Make endpoints, secrets, keys, members, budgets, shapes and prices as a YAML file says.\n"
      "Each document has a `kind` and the fields of the API; what it does not say has its default.\n"
      "Example: neutrino apply -f cloud.yaml --diff --dry-run");
  ApplyOptions options;
  CLI::App& app = command.alone(Prints::data, [&](Cloud& cloud) { return run_apply_files(cloud, options); });
  app.add_option("-f,--file", options.files, "what to apply; - is standard input (repeatable)")
      ->required()
      ->expected(1)
      ->take_all();
  app.add_flag("--dry-run", options.dry_run, "say what would be, and change nothing");
  app.add_flag("--diff", options.diff, "show each field that changes");
  return command.run(argc, argv);
}

int run_export(int argc, char** argv) {
  CloudCommand command(
      "export",
      "What is there, as YAML that `neutrino apply` takes. Values of secrets and keys are not in it.\n"
      "Example: neutrino export endpoint/chat > chat.yaml");
  ExportOptions options;
  CLI::App& app =
      command.alone(Prints::data, [&](Cloud& cloud) { return run_export_objects(cloud, options); });
  app.add_option("WHAT", options.what,
                 "a kind, as endpoints, or one, as endpoint/chat (default: everything)");
  return command.run(argc, argv);
}

}  // namespace neutrino::cli
