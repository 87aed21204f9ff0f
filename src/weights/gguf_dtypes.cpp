#include "weights/gguf_dtypes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace neutrino::weights {
namespace {

using compute::DType;

struct Number {
  uint32_t number;
  DType dtype;
};
constexpr Number kNumbers[] = {
    {0, DType::f32},    {1, DType::f16},     {2, DType::q4_0},     {3, DType::q4_1},    {6, DType::q5_0},
    {7, DType::q5_1},   {8, DType::q8_0},    {10, DType::q2_k},    {11, DType::q3_k},   {12, DType::q4_k},
    {13, DType::q5_k},  {14, DType::q6_k},   {16, DType::iq2_xxs}, {17, DType::iq2_xs}, {18, DType::iq3_xxs},
    {19, DType::iq1_s}, {20, DType::iq4_nl}, {21, DType::iq3_s},   {22, DType::iq2_s},  {23, DType::iq4_xs},
    {29, DType::iq1_m}, {30, DType::bf16},   {34, DType::tq1_0},   {35, DType::tq2_0},  {39, DType::mxfp4},
    {40, DType::nvfp4},
};

// Types that hold no weights of a model, or that no released model has.
struct Unread {
  uint32_t number;
  const char* name;
};
constexpr Unread kUnread[] = {
    {9, "q8_1"}, {15, "q8_K"}, {24, "i8"}, {25, "i16"}, {26, "i32"}, {27, "i64"}, {28, "f64"}, {41, "q1_0"},
};

}  // namespace

std::optional<DType> gguf_dtype(uint32_t number) {
  for (const Number& entry : kNumbers)
    if (entry.number == number) return entry.dtype;
  return std::nullopt;
}

uint32_t gguf_dtype_number(DType dtype) {
  const auto* found = std::find_if(std::begin(kNumbers), std::end(kNumbers),
                                   [&](const Number& entry) { return entry.dtype == dtype; });
  check(found != std::end(kNumbers), "every type of weights has a number");
  return found->number;
}

std::string gguf_dtype_text(uint32_t number) {
  for (const Unread& entry : kUnread)
    if (entry.number == number) return fmt::format("{} ({})", entry.name, number);
  return std::to_string(number);
}

std::string gguf_dtype_names() {
  std::string names;
  for (const Number& entry : kNumbers)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", compute::dtype_info(entry.dtype).name);
  return names;
}

}  // namespace neutrino::weights
