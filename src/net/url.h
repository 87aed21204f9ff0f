// A URL taken apart by the parser that will also connect to it (libcurl's), so that what is checked is what is used.
#pragma once

#include <string>
#include <string_view>

namespace neutrino::net {

class Url {
 public:
  // An absolute http or https URL without a user in it. Throws Error{invalid_argument} that names what is wrong.
  static Url parse(std::string_view text);
  // What `reference`, absolute or relative, means in a document at this URL. Throws as parse() does.
  Url resolve(std::string_view reference) const;

  const std::string& text() const { return text_; }
  const std::string& scheme() const { return scheme_; }  // "http" or "https"
  const std::string& host() const { return host_; }      // lower case; an IPv6 address in brackets
  const std::string& path() const { return path_; }      // as it was written: percent-encoded
  std::string origin() const;                            // "https://host:443"
  bool is_loopback() const;                              // localhost, 127.0.0.0/8, [::1]

 private:
  std::string text_, scheme_, host_, port_, path_;
};

// One segment of a path, or one value of a query: all but letters, digits, '-', '.', '_' and '~' as %XX.
std::string percent_encode(std::string_view text);
// A path of several segments: the same, but for '/'.
std::string percent_encode_path(std::string_view path);

}  // namespace neutrino::net
