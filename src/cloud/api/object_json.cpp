#include "cloud/api/object_json.h"

#include "base/error.h"

namespace neutrino::cloud {
namespace {

[[noreturn]] void mismatch(std::string message) {
  throw Error(ErrorCode::failed_precondition, std::move(message)).with_reason("etag_mismatch");
}

// Is `etag` in a list such as "7", "9"? A weak one counts as the same: there is one form of an object.
bool names_etag(std::string_view list, int64_t etag) {
  const std::string wanted = std::to_string(etag);
  while (!list.empty()) {
    std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(item.size() + 1, list.size()));
    const auto trim = [&](std::string_view what) {
      while (!item.empty() && what.find(item.front()) != std::string_view::npos) item.remove_prefix(1);
      while (!item.empty() && what.find(item.back()) != std::string_view::npos) item.remove_suffix(1);
    };
    trim(" \t");
    if (item.starts_with("W/")) item.remove_prefix(2);
    trim("\"");
    if (item == wanted) return true;
  }
  return false;
}

}  // namespace

void merge_patch(json::value& target, const json::value& patch) {
  if (!patch.is_object()) {
    target = patch;
    return;
  }
  if (!target.is_object()) target = json::object();
  json::object& members = target.get_object();
  for (const auto& member : patch.get_object()) {
    if (member.value().is_null())
      members.erase(member.key());
    else
      merge_patch(members[member.key()], member.value());
  }
}

void check_body_etag(const json::value& body, int64_t etag) {
  const json::value* brought = body.is_object() ? body.get_object().if_contains("etag") : nullptr;
  if (brought && brought->is_int64() && brought->get_int64() != etag)
    mismatch(fmt::format("it was changed meanwhile: its etag is {}, not {}", etag, brought->get_int64()));
}

void check_conditions(const net::Request& request, std::optional<int64_t> etag) {
  const std::string_view match = request.header("if-match"), none = request.header("if-none-match");
  const auto holds = [&](std::string_view list) { return etag && (list == "*" || names_etag(list, *etag)); };
  const std::string now = etag ? fmt::format("its etag is \"{}\"", *etag) : "it is not there";
  if (!match.empty() && !holds(match)) mismatch(fmt::format("If-Match is {:.64}, but {}", match, now));
  if (!none.empty() && holds(none)) mismatch(fmt::format("If-None-Match is {:.64}, but {}", none, now));
}

json::object select_members(const json::object& object, const std::vector<std::string>& names) {
  if (names.empty()) return object;
  json::object selected;
  for (const std::string& name : names)
    if (const json::value* value = object.if_contains(name)) selected.emplace(name, *value);
  return selected;
}

}  // namespace neutrino::cloud
