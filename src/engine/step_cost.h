// What a decode step costs, and what one more row in it: a straight line through what the last steps took.
//
// A step of few rows mostly reads weights, so a second row costs a fraction of the first; which one depends on the machine, the
// model and the depth of context. Least squares over steps that fade, drawn towards a guess as long as all had the same size.
#pragma once

#include <algorithm>
#include <cstdint>

namespace neutrino::engine {

class StepCost {
 public:
  // Of a step with `rows` rows, none of them of a prompt.
  void observe(int64_t rows, int64_t nanoseconds) {
    if (rows < 1 || nanoseconds <= 0) return;
    const auto x = static_cast<double>(rows);
    auto y = static_cast<double>(nanoseconds);
    if (weight_ > kSure) y = std::min(y, kOutlier * of(rows));  // the machine was busy with something else
    for (double* sum : {&weight_, &x_, &y_, &xx_, &xy_}) *sum *= kKeep;
    weight_ += 1, x_ += x, y_ += y, xx_ += x * x, xy_ += x * y;
  }

  // Nanoseconds; before anything was measured, in units of one row's step.
  double of(int64_t rows) const {
    if (weight_ == 0) return 1 + kGuess * static_cast<double>(rows - 1);
    const double slope = row(), mean = x_ / weight_;
    return std::max(y_ / weight_ + slope * (static_cast<double>(rows) - mean),
                    slope * static_cast<double>(rows));
  }

  // Of one row more.
  double row() const {
    if (weight_ == 0) return kGuess;
    const double mean = x_ / weight_, average = y_ / weight_;
    const double guess = average * kGuess / (1 + kGuess * (mean - 1));
    const double slope = (xy_ - mean * y_ + kGuessWeight * guess) / (xx_ - mean * x_ + kGuessWeight);
    return std::clamp(slope, kLeast * guess, average / mean);
  }

 private:
  static constexpr double kKeep = 0.98;  // of what was seen, a step later
  static constexpr double kGuess = 0.2;  // of the first row's cost
  static constexpr double kGuessWeight = 2, kLeast = 0.1, kSure = 8, kOutlier = 3;

  double weight_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;  // sums over steps: 1, rows, ns, rows^2, rows * ns
};

}  // namespace neutrino::engine
