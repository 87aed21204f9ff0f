// The least of an OpenID provider that a relying party can be tested against: it says what a test tells it to, also what is wrong.
// The real one is in tests/e2e.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/json.h"
#include "cloud/testing/token_signer.h"
#include "net/testing/raw_server.h"

namespace neutrino::cloud::testing {

class OpenidProvider {
 public:
  OpenidProvider();

  std::string issuer() const { return issuer_; }
  int asked(const std::string& path) const {
    const std::lock_guard held(mutex_);
    return asked_.contains(path) ? asked_.at(path) : 0;
  }
  std::string token_request() const {  // the last one, with its header
    const std::lock_guard held(mutex_);
    return token_request_;
  }

  // What it does next.
  void sign_with(std::string kid) {
    const std::lock_guard held(mutex_);
    signer_ = std::make_unique<TokenSigner>(SigningAlgorithm::es256, std::move(kid));
  }
  void publish_keys() {  // of what it signs with now
    const std::lock_guard held(mutex_);
    published_ = signer_->jwk();
  }
  void answer(const std::string& path, int status, json::value body) {
    const std::lock_guard held(mutex_);
    answers_[path] = {status, to_text(body)};
  }
  void issue(json::object claims) {  // in the next ID token
    const std::lock_guard held(mutex_);
    claims_ = std::move(claims);
  }

 private:
  struct Answer {
    int status = 404;
    std::string body;
  };
  void serve(net::testing::RawPeer& peer);
  Answer answer_to(const std::string& path, const std::string& request);

  mutable std::mutex mutex_;  // guards all but the server
  std::map<std::string, int> asked_;
  std::map<std::string, Answer> answers_;  // instead of its own
  std::string token_request_, issuer_;
  json::object claims_, published_;
  std::unique_ptr<TokenSigner> signer_;
  net::testing::RawServer server_{[this](net::testing::RawPeer& peer) { serve(peer); }};
};

}  // namespace neutrino::cloud::testing
