// The outermost object of a JSON body, without parsing the rest: where each member's value stands, so that a gateway can read `model`
// and change it while every other byte goes on as it came.
//
// Strict where parsers are known to disagree: two members with one name, or text after the object, are refused, because a replica could
// read another `model` than the one that was authorised. What stands inside the values is the replica's to judge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::cloud {

class RequestBody {
 public:
  // Borrows `text`. Throws Error{invalid_argument, reason invalid_json} for what is not one JSON object.
  explicit RequestBody(std::string_view text);

  std::string_view raw(std::string_view name) const;  // the value as it stands there; empty: absent
  std::string text(std::string_view name) const;      // of a string; empty: absent or none
  std::optional<int64_t> integer(std::string_view name) const;
  bool is_true(std::string_view name) const { return raw(name) == "true"; }

  // The body with the member's value replaced, or with a new member in front. `value` is JSON.
  struct Change {
    std::string_view name;
    std::string value;
  };
  std::string with(std::vector<Change> changes) const;

 private:
  struct Member {
    std::string name;
    size_t begin, end;  // of the value
  };
  const Member* find(std::string_view name) const;
  std::string_view text_;
  size_t first_ = 0;  // behind the opening brace
  std::vector<Member> members_;
};

}  // namespace neutrino::cloud
