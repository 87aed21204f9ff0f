// Secrets through the API: they can be written and used, not read. `value` is a member of requests only.
#include "cloud/api/collection.h"
#include "cloud/api/field_checks.h"
#include "cloud/api/tenants.h"
#include "cloud/secret_box.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

// As an environment takes it.
std::string value_of(const ApiCall& call) {
  const json::value& value = call.body.get_object().at("value");
  if (!value.is_string())
    throw Error(ErrorCode::invalid_argument, "value must be a string").with_param("value");
  std::string text(value.get_string());
  if (std::ssize(text) > limits::kSecretBytes || text.find('\0') != text.npos)
    throw make_error(ErrorCode::invalid_argument, "value must have at most {} bytes, and no NUL",
                     limits::kSecretBytes)
        .with_param("value");
  return text;
}

bool holds(const SecretBox& box, const Secret& secret, std::string_view value) {
  try {
    return box.open(secret.sealed, secret_context(secret.workspace, secret.id)) == value;
  } catch (const Error&) {
    return false;  // of a key that is lost: it can be written anew
  }
}

void check_secret(const SecretBox& box, ApiCall& call, Secret& secret, const Secret* before) {
  check_name("name", secret.name, limits::kNameBytes);
  const bool brought = call.body.get_object().contains("value");
  if (!brought && (!before || call.http.method == net::Method::put))
    throw Error(ErrorCode::invalid_argument, "value is needed").with_param("value");
  if (!brought) return;
  const std::string value = value_of(call);
  if (before && holds(box, *before, value)) return;
  secret.sealed = box.seal(value, secret_context(secret.workspace, secret.id));
}

// The text is a part of the JSON of an endpoint that uses the secret, and of no other's. '_' would stand for any character.
void check_unused(Transaction& tx, const Secret& secret) {
  std::string name;
  for (const char c : secret.name) name += c == '_' ? std::string("!_") : std::string(1, c);
  const auto row = tx.query_row(
      "SELECT name FROM endpoints WHERE workspace = ? AND deployments LIKE ? ESCAPE '!' ORDER BY name LIMIT "
      "1",
      secret.workspace, fmt::format("%\"secret\":\"{}\"%", name));
  if (!row) return;
  throw make_error(ErrorCode::failed_precondition, "the secret '{}' is in use, by the endpoint '{}' for one",
                   secret.name, store::as_text(row->at(0), "name"))
      .with_reason("in_use");
}

}  // namespace

std::vector<ApiRoute> secret_api(const ApiServices& services) {
  const SecretBox& box = services.secrets;
  return collection_routes(Collection<Secret>{
      .path = "/api/v1/secrets",
      .item_path = "/api/v1/secrets/{id}",
      .noun = "secret",
      .rows = services.tables.secrets,
      .computed = {{"value", {{"type", "string"}, {"writeOnly", true}, {"description", "is never shown"}}}},
      .check = [&box](ApiCall& call, Transaction&, Secret& row,
                      const Secret* before) { check_secret(box, call, row, before); },
      .before_erase = [](ApiCall&, Transaction& tx, const Secret& row) { check_unused(tx, row); },
      .make_id = [](const Secret&) { return new_id("sec"); }});
}

}  // namespace neutrino::cloud
