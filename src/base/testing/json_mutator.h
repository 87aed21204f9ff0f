// Makes hostile JSON out of good: a value of another type or out of any range, a field that is gone or there twice, nesting
// without end, a text that is cut off.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"

namespace neutrino {

class JsonMutator {
 public:
  explicit JsonMutator(Random& random) : random_(random) {}

  // One change to one value somewhere in the tree.
  void change(json::value& root) {
    std::vector<json::value*> places;
    collect(root, places);
    json::value& place = *places[static_cast<size_t>(random_.below(static_cast<int64_t>(places.size())))];
    if (place.is_object() && !place.get_object().empty() && random_.chance(0.4))
      change_object(place.get_object());
    else if (place.is_array() && !place.get_array().empty() && random_.chance(0.4))
      change_array(place.get_array());
    else
      place = random_.chance(0.5) ? odd_number() : odd_value();
  }

  // A change that no tree can hold.
  std::string change_text(std::string text) {
    const auto at = static_cast<size_t>(random_.below(static_cast<int64_t>(text.size())));
    switch (random_.below(5)) {
      case 0: text[at] ^= static_cast<char>(1 << random_.below(8)); return text;
      case 1: return text.substr(0, at);
      case 2: return text.insert(at, "\"model_type\":\"x\",");
      case 3: return text.insert(at, std::string(static_cast<size_t>(random_.below(1000)), '['));
      default: return text.insert(at, "\xff");
    }
  }

  json::value odd_number() {
    static constexpr double kDoubles[] = {0.5, -0.0, 1e308, 1e-320, 16777217, 4294967296.0, 3.5};
    static constexpr int64_t kIntegers[] = {0,   -1,    1,         2,         3,         7,
                                            255, 65536, INT32_MAX, INT64_MAX, INT64_MIN, int64_t{1} << 53};
    if (random_.chance(0.2)) return kDoubles[random_.below(7)];
    if (random_.chance(0.05)) return ~uint64_t{0};
    return kIntegers[random_.below(12)];
  }

 private:
  static void collect(json::value& value, std::vector<json::value*>& places) {
    places.push_back(&value);
    if (value.is_object())
      for (auto& member : value.get_object()) collect(member.value(), places);
    else if (value.is_array())
      for (json::value& element : value.get_array()) collect(element, places);
  }

  void change_object(json::object& object) {
    auto member = object.begin() + random_.below(static_cast<int64_t>(object.size()));
    if (random_.chance(0.5)) {
      object.erase(member);
    } else {
      const json::value value = member->value();
      object.erase(member);
      object[random_.chance(0.5) ? "other" : "x.weight"] = value;
    }
  }

  void change_array(json::array& array) {
    auto element = array.begin() + random_.below(static_cast<int64_t>(array.size()));
    if (random_.chance(0.5))
      array.erase(element);
    else
      array.insert(element, odd_value());
  }

  json::value odd_value() {
    switch (random_.below(9)) {
      case 0: return nullptr;
      case 1: return true;
      case 2: return "";
      case 3: return "../../etc/passwd";
      case 4: return json::string(static_cast<size_t>(random_.below(300)), 'a');
      case 5: return json::array();
      case 6: return json::object();
      case 7: return json::array{1, 2, 3};
      default: return json::object{{"rope_type", "yarn"}, {"factor", 0}};
    }
  }

  Random& random_;
};

}  // namespace neutrino
