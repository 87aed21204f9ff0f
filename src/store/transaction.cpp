#include "store/transaction.h"

#include <cmath>

namespace neutrino::store {

void Transaction::refuse_if_failed() const {
  if (failed_)
    throw Error(ErrorCode::failed_precondition,
                "a statement of this transaction has failed, so it takes no more statements");
}

template <typename Work>
auto Transaction::guarded(Work work) {
  refuse_if_failed();
  failed_ = true;  // until `work` has returned
  if constexpr (std::is_void_v<decltype(work())>) {
    work();
    failed_ = false;
  } else {
    auto result = work();
    failed_ = false;
    return result;
  }
}

Rows Transaction::run(const std::string& sql, std::span<const Value> values) {
  for (const Value& value : values) {
    const auto* text = std::get_if<std::string>(&value);
    if (text != nullptr && !is_storable_text(*text))
      throw Error(ErrorCode::invalid_argument, "a text to be stored must be UTF-8 without NUL");
    const auto* number = std::get_if<double>(&value);
    if (number != nullptr && !std::isfinite(*number))
      throw make_error(ErrorCode::invalid_argument, "a number to be stored must be finite, got {}", *number);
  }
  return guarded([&] { return connection_.run(sql, values); });
}

void Transaction::define(const std::string& sql) {
  guarded([&] { connection_.define(sql); });
}

void Transaction::attempt(const std::function<void()>& work) {
  const std::string name = fmt::format("attempt_{}", ++depth_);
  query("SAVEPOINT " + name);
  try {
    work();
    refuse_if_failed();
    query("RELEASE SAVEPOINT " + name);
    --depth_;
  } catch (const ConnectionLost&) {
    throw;
  } catch (...) {
    --depth_;
    failed_ = !connection_.in_transaction();
    if (!failed_) {
      query("ROLLBACK TO SAVEPOINT " + name);
      query("RELEASE SAVEPOINT " + name);
    }
    throw;
  }
}

}  // namespace neutrino::store
