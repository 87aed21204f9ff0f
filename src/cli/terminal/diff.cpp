#include "cli/terminal/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace neutrino::cli {
namespace {

constexpr size_t kShownBytes = 300;  // of a value

std::string join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

const json::string* name_of(const json::value& item) {
  const json::value* name = item.is_object() ? item.get_object().if_contains("name") : nullptr;
  return name ? name->if_string() : nullptr;
}

bool have_names(const json::array& items) {
  std::set<json::string> names;
  return std::all_of(items.begin(), items.end(), [&](const json::value& item) {
    const json::string* name = name_of(item);
    return name && names.insert(*name).second;
  });
}

const json::value* named(const json::array& items, const json::string& name) {
  for (const json::value& item : items)
    if (*name_of(item) == name) return &item;
  return nullptr;
}

class Comparison {
 public:
  std::vector<Difference> found;

  void values(const std::string& path, const json::value* from, const json::value* to) {
    static const json::value nothing;
    const json::value& before = from ? *from : nothing;
    const json::value& after = to ? *to : nothing;
    if (before == after) return;
    if (before.is_object() && after.is_object())
      return objects(path, before.get_object(), after.get_object());
    if (before.is_array() && after.is_array()) return arrays(path, before.get_array(), after.get_array());
    found.push_back({path, before, after});
  }

 private:
  void objects(const std::string& path, const json::object& from, const json::object& to) {
    for (const auto& [key, value] : from) values(join(path, key), &value, to.if_contains(key));
    for (const auto& [key, value] : to)
      if (!from.contains(key)) values(join(path, key), nullptr, &value);
  }
  void arrays(const std::string& path, const json::array& from, const json::array& to) {
    if (have_names(from) && have_names(to)) return by_name(path, from, to);
    const auto item = [](const json::array& items, size_t i) {
      return i < items.size() ? &items[i] : nullptr;
    };
    for (size_t i = 0; i < std::max(from.size(), to.size()); ++i)
      values(fmt::format("{}[{}]", path, i), item(from, i), item(to, i));
  }
  void by_name(const std::string& path, const json::array& from, const json::array& to) {
    const auto where = [&](const json::string& name) {
      return fmt::format("{}[{}]", path, std::string_view(name));
    };
    for (const json::value& item : from) values(where(*name_of(item)), &item, named(to, *name_of(item)));
    for (const json::value& item : to)
      if (!named(from, *name_of(item))) values(where(*name_of(item)), nullptr, &item);
  }
};

std::string shown(const json::value& value) {
  std::string text = harmless(to_text(value));
  return text.size() > kShownBytes ? cut(text, kShownBytes) : text;
}

}  // namespace

std::vector<Difference> differences(const json::value& from, const json::value& to) {
  Comparison comparison;
  comparison.values("", &from, &to);
  return std::move(comparison.found);
}

std::string text_of(const std::vector<Difference>& all, const Screen& screen) {
  std::string text;
  for (const Difference& one : all)
    text += fmt::format("    {}: {} -> {}\n", one.path, styled(shown(one.from), Style::bad, screen),
                        styled(shown(one.to), Style::good, screen));
  return text;
}

}  // namespace neutrino::cli
