#include "chat/testing/fake_model_admin.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/file.h"

namespace neutrino::chat::testing {

std::vector<std::string> FakeModelAdmin::take_asked() {
  const std::lock_guard lock(mutex_);
  return std::exchange(asked_, {});
}

SleepState FakeModelAdmin::sleep_state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void FakeModelAdmin::set_state(SleepState state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
}

SleepReport FakeModelAdmin::sleep() {
  set_state(SleepState::asleep);
  return {.kv_bytes = 1, .weight_bytes = 2};
}

PrefixReport FakeModelAdmin::save_prefix(const std::filesystem::path& file,
                                         const std::vector<int32_t>& tokens, const std::string& cache_salt,
                                         int64_t) {
  std::string text;
  for (const int32_t token : tokens) text += fmt::format("{} ", token);
  std::ofstream(file, std::ios::trunc) << text;
  const std::lock_guard lock(mutex_);
  asked_.push_back(fmt::format("save {} as {} salt {}", text, file.filename().string(), cache_salt));
  return {.tokens = std::ssize(tokens), .bytes = std::ssize(text)};
}

PrefixReport FakeModelAdmin::restore_prefix(const std::filesystem::path& file, const std::string& cache_salt,
                                            int64_t bytes_max) {
  if (!std::filesystem::exists(file))
    throw make_error(ErrorCode::not_found, "there is no prefix \"{}\"", file.stem().string());
  const std::string text = read_file(file, bytes_max);
  const std::lock_guard lock(mutex_);
  asked_.push_back(fmt::format("restore {} salt {}", file.filename().string(), cache_salt));
  return {.tokens = std::ranges::count(text, ' '), .bytes = std::ssize(text)};
}

}  // namespace neutrino::chat::testing
