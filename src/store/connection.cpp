#include "store/connection.h"

namespace neutrino::store {

bool is_postgres(const std::string& url) {
  return url.starts_with("postgres://") || url.starts_with("postgresql://");
}

std::string shown_url(const std::string& url) {
  if (!is_postgres(url)) return url;
  const size_t begin = url.find("//") + 2, end = url.find_first_of("/?", begin);
  const size_t at = url.substr(0, end).rfind('@');
  std::string shown = url.substr(0, url.find('?'));  // parameters may hold a password too
  if (at == std::string::npos) return shown;
  const size_t colon = url.find(':', begin);
  if (colon < at) shown.erase(colon, at - colon);
  return shown;
}

std::unique_ptr<Connection> connect(const ConnectionOptions& options) {
  return is_postgres(options.url) ? connect_postgres(options) : connect_sqlite(options);
}

}  // namespace neutrino::store
