#include "cli/profiles.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/sha256.h"
#include "cli/model_details.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kContextMin = 512;  // less is no use to anybody
constexpr size_t kIdDigitsMin = 8;    // of an abbreviated id
constexpr std::string_view kExact = "exact";
constexpr std::string_view kKvTypes[] = {"bf16", "f16", "q8_0"};
constexpr std::string_view kGroups[][2] = {{"runnable", "Compatible and runnable"},
                                           {"low memory", "Compatible but low memory"},
                                           {"incompatible", "Incompatible"}};

std::string profile_name(const weights::ModelFacts& facts, std::string_view variant) {
  return fmt::format("neutrino-cpu-{}-{}", facts.quantization, variant);
}

std::string variant_of(bool exact, std::string_view kv_type) {
  return exact ? std::string(kExact) : fmt::format("kv_{}", kv_type);
}

Profile make_profile(const weights::ModelFacts& facts, std::string_view variant,
                     std::map<std::string, std::string> settings) {
  std::string name = profile_name(facts, variant);
  std::string id = to_hex(sha256(name));
  return {std::move(name), std::move(id), std::move(settings)};
}

bool is_exact(const Profile& profile) { return profile.settings.contains("exact"); }

// Memory for one sequence of so many tokens; nullopt: this build does not run the model, for `reason`.
std::optional<int64_t> required(const weights::WeightFile& file, const Profile& profile, int64_t& context,
                                std::string& reason) {
  const auto kv_type = profile.settings.find("kv-type");
  DetailOptions options{.context = context, .exact = is_exact(profile)};
  if (kv_type != profile.settings.end()) options.kv_type = kv_type->second;
  const json::object details = model_details(file, options);
  if (const json::value* why = details.if_contains("not_runnable")) {
    reason = why->as_string();
    return std::nullopt;
  }
  const json::object& memory = details.at("memory").as_object();
  context = memory.at("context").to_number<int64_t>();
  return memory.at("total_bytes").to_number<int64_t>();
}

json::object judge(const weights::WeightFile& file, const Profile& profile, int64_t context,
                   int64_t available) {
  json::object row{{"profile", profile.name}, {"id", profile.id}};
  std::string reason;
  const auto wanted = required(file, profile, context, reason);
  if (!wanted) {
    row["group"] = "incompatible";
    row["reason"] = reason;
    return row;
  }
  row["context"] = context;
  row["requires_bytes"] = *wanted;
  if (*wanted <= available) {
    row["group"] = "runnable";
    return row;
  }
  row["group"] = "incompatible";
  for (int64_t less = context / 2; less >= kContextMin; less /= 2) {
    const int64_t bytes = required(file, profile, less, reason).value();
    row["smallest_bytes"] = bytes;
    if (bytes > available) continue;
    row["group"] = "low memory";
    row["flag"] = fmt::format("--context {}", less);
    row["reduced_bytes"] = bytes;
    break;
  }
  return row;
}

std::string bytes_of(const json::object& row, std::string_view name) {
  return size_text(row.at(name).to_number<int64_t>());
}

std::string remark(const json::object& row) {
  if (const json::value* reason = row.if_contains("reason")) return std::string(reason->as_string());
  std::string text = fmt::format("requires {} for {} tokens", bytes_of(row, "requires_bytes"),
                                 row.at("context").to_number<int64_t>());
  if (row.contains("flag"))
    text += fmt::format("; {} reduces it to {}", std::string_view(row.at("flag").as_string()),
                        bytes_of(row, "reduced_bytes"));
  else if (row.contains("smallest_bytes"))
    text += fmt::format(", and {} for the shortest context; a smaller quantisation would help",
                        bytes_of(row, "smallest_bytes"));
  return text;
}

}  // namespace

std::vector<Profile> profiles_of(const weights::ModelFacts& facts) {
  std::vector<Profile> profiles;
  for (const std::string_view kv_type : kKvTypes)
    profiles.push_back(make_profile(facts, variant_of(false, kv_type), {{"kv-type", std::string(kv_type)}}));
  profiles.push_back(make_profile(facts, kExact, {{"exact", "true"}}));
  return profiles;
}

std::string profile_id(const weights::ModelFacts& facts, bool exact, std::string_view kv_type) {
  return to_hex(sha256(profile_name(facts, variant_of(exact, kv_type))));
}

Profile find_profile(const weights::ModelFacts& facts, std::string_view wanted) {
  std::string names;
  for (Profile& profile : profiles_of(facts)) {
    if (profile.name == wanted || (wanted.size() >= kIdDigitsMin && profile.id.starts_with(wanted)))
      return std::move(profile);
    names += (names.empty() ? "" : ", ") + profile.name;
  }
  throw make_error(ErrorCode::not_found, "there is no profile \"{:.100}\" of this model, only: {}", wanted,
                   names);
}

json::array list_profiles(const weights::OpenModel& model, int64_t context,
                          const AvailableMemory& available) {
  json::array rows;
  for (const Profile& profile : profiles_of(model.facts))
    rows.push_back(judge(*model.file, profile, context, available.bytes));
  return rows;
}

void print_profiles(const json::array& profiles, const AvailableMemory& available) {
  for (const auto& [group, title] : kGroups) {
    bool any = false;
    for (const json::value& value : profiles) {
      const json::object& row = value.as_object();
      if (row.at("group") != json::string_view(group.data(), group.size())) continue;
      if (!std::exchange(any, true)) fmt::print("{}:\n", title);
      fmt::print("  {} {:.12} [{}]\n", std::string_view(row.at("profile").as_string()),
                 std::string_view(row.at("id").as_string()), remark(row));
    }
  }
  fmt::print("{} are free, by {}\n", size_text(available.bytes), available.source);
}

}  // namespace neutrino::cli
