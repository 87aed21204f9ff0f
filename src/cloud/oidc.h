// Sign-in with an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0; RFC 7636, S256).
//
// The browser is sent to the provider and comes back with a code, which is good for nothing without the verifier that only we have; we
// exchange it, with the client's secret, for an ID token. What binds the three steps together are `state` (the answer is to this
// browser's question), `nonce` (the token is from this sign-in) and the verifier. They are kept by the browser in a sealed cookie, so
// nothing has to be remembered here, and a restart in between does not matter.
//
// An email of the provider is believed if the provider says that it was verified. Https only, but for loopback.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <string_view>
#include <tuple>

#include "base/clock.h"
#include "base/fields.h"
#include "cloud/id_token.h"
#include "cloud/limits.h"
#include "cloud/tenants.h"

namespace neutrino::cloud {

struct OidcOptions {
  std::string issuer;  // empty: there is no such sign-in
  std::string client_id;
  std::string client_secret;  // empty: a public client
  std::string public_url;     // of this control plane, as browsers see it: "https://cloud.example.org"
  std::string scopes = "openid email";
  std::string
      auto_join_workspace;  // by name: whoever signs in and is a member nowhere becomes one here; empty: is refused
  Role auto_join_role = Role::viewer;
  static constexpr auto fields() {
    using O = OidcOptions;
    return std::tuple(
        field("issuer", &O::issuer, {.help = "URL of the OpenID provider; empty: no such sign-in"}),
        field("client_id", &O::client_id), field("client_secret", &O::client_secret, {.secret = true}),
        field("public_url", &O::public_url, {.help = "URL of this control plane, as browsers see it"}),
        field("scopes", &O::scopes),
        field("auto_join_workspace", &O::auto_join_workspace,
              {.help = "whoever signs in and is a member nowhere becomes one of this workspace"}),
        field("auto_join_role", &O::auto_join_role));
  }
};

// From a file with one JSON object of these fields; it holds the client's secret. Throws Error{invalid_argument} that names the field,
// {not_found}, {permission_denied} if others may read it.
OidcOptions read_oidc_options(const std::filesystem::path& file);

// What a sign-in has to remember until the browser is back. Random, of 160 bits each.
struct OidcFlow {
  std::string state, nonce, verifier;
  static OidcFlow start();
};

// Any thread.
class OidcProvider {
 public:
  // Throws Error{invalid_argument} that names the option that will not do. Asks nobody yet.
  OidcProvider(OidcOptions options, const Clock& clock);

  const OidcOptions& options() const { return options_; }
  std::string redirect_uri() const;

  // Where to send the browser. Asks the provider for its description if that is not known. Throws Error{unavailable}.
  std::string authorization_url(const OidcFlow& flow);

  // The verified email of who came back with this code. Throws Error{unauthenticated} for whom the provider does not
  // vouch, Error{permission_denied, reason "email_not_verified"}, Error{unavailable}.
  std::string verified_email(const OidcFlow& flow, const std::string& code);

 private:
  struct Description;  // what the provider says of itself, and its keys
  struct Tokens;

  std::shared_ptr<const Description> description();
  std::shared_ptr<const Description> ask_again();
  Description describe() const;
  Tokens exchange(const Description& provider, const OidcFlow& flow, const std::string& code) const;
  IdClaims verify(const Description& provider, const OidcFlow& flow, const std::string& id_token);

  const OidcOptions options_;
  const Clock& clock_;
  std::counting_semaphore<limits::kOidcCalls> free_calls_{limits::kOidcCalls};
  std::mutex mutex_;  // guards the rest
  std::shared_ptr<const Description> known_;
  int64_t known_until_ns_ = 0;
  int64_t silent_until_ns_ = 0;  // was asked in vain, and is not asked again before
};

}  // namespace neutrino::cloud
