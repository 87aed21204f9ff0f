#include "cloud/testing/openid_provider.h"

#include <fmt/format.h>

#include <charconv>

namespace neutrino::cloud::testing {

OpenidProvider::OpenidProvider() {
  issuer_ = fmt::format("http://127.0.0.1:{}", server_.port());
  sign_with("k1");
  publish_keys();
}

void OpenidProvider::serve(net::testing::RawPeer& peer) {
  if (!peer.read_until("\r\n\r\n")) return;
  const size_t head = peer.seen().find("\r\n\r\n") + 4;
  size_t length = 0;
  if (const size_t at = peer.seen().find("Content-Length: "); at != std::string::npos)
    std::from_chars(peer.seen().data() + at + 16, peer.seen().data() + head, length);
  peer.read_size(head + length);
  const size_t from = peer.seen().find(' ') + 1;
  const std::string path = peer.seen().substr(from, peer.seen().find(' ', from) - from);
  const Answer answer = answer_to(path, peer.seen());
  peer.send(
      fmt::format("HTTP/1.1 {} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
                  "Connection: close\r\n\r\n{}",
                  answer.status, answer.body.size(), answer.body));
}

OpenidProvider::Answer OpenidProvider::answer_to(const std::string& path, const std::string& request) {
  const std::lock_guard held(mutex_);
  ++asked_[path];
  if (path == "/token") token_request_ = request;
  if (answers_.contains(path)) return answers_.at(path);
  if (path == "/.well-known/openid-configuration")
    return {200, to_text(json::object{{"issuer", issuer_},
                                      {"authorization_endpoint", issuer_ + "/authorize?tenant=1"},
                                      {"token_endpoint", issuer_ + "/token"},
                                      {"userinfo_endpoint", issuer_ + "/userinfo"},
                                      {"jwks_uri", issuer_ + "/keys"}})};
  if (path == "/keys") return {200, to_text(json::object{{"keys", json::array{published_}}})};
  if (path == "/token")
    return {200, to_text(json::object{{"access_token", "at"}, {"id_token", signer_->sign(claims_)}})};
  return {404, "{}"};
}

}  // namespace neutrino::cloud::testing
