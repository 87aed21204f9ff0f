#include "compute/host_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "base/checked.h"
#include "base/error.h"
#include "compute/dtype.h"

namespace neutrino::compute {
namespace {

Error refuse_update(const LowRankUpdate& update, std::string_view why) {
  return make_error(ErrorCode::invalid_argument, "adapter: {} {}", update.tensor, why);
}

// Elements before weight (lane, i) in a panel.
int64_t place(bool bf16, int64_t lane, int64_t i) {
  return i / 2 * 2 * kLanePanel + (bf16 ? lane * 2 + i % 2 : i % 2 * kLanePanel + lane);
}

// All rows of the tensor are read by products.
bool is_covered(const LowRankUpdate& update, std::span<const ProductRows> products) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const ProductRows& product : products)
    for (const ProductSection& section : product.sections)
      if (section.tensor == update.tensor)
        ranges.emplace_back(section.tensor_row, section.tensor_row + section.rows);
  std::ranges::sort(ranges);
  int64_t end = 0;
  for (const auto& [first, last] : ranges) {
    if (first > end) return false;
    end = std::max(end, last);
  }
  return end == update.rows;
}

}  // namespace

float LanePanels::at(int64_t lane, int64_t i) const {
  const std::byte* from = panel(lane / kLanePanel);
  const int64_t index = place(bf16, lane % kLanePanel, i);
  if (!bf16) return reinterpret_cast<const float*>(from)[index];
  return bf16_to_f32(reinterpret_cast<const uint16_t*>(from)[index]);
}

float lane_sum(const LanePanels& weights, int64_t lane, const float* x) {
  float chains[kLaneChains] = {};
  for (int64_t i = 0; i < weights.inner; ++i)
    chains[i % kLaneChains] = std::fma(weights.at(lane, i), x[i], chains[i % kLaneChains]);
  return (chains[0] + chains[2]) + (chains[1] + chains[3]);
}

HostAdapter::HostAdapter(std::span<const LowRankUpdate> updates, std::span<const ProductRows> products,
                         Arithmetic arithmetic)
    : made_for_(products.data()), bf16_(arithmetic == Arithmetic::integer), products_(products.size()) {
  for (const LowRankUpdate& update : updates) add(update, products);
}

void HostAdapter::add(const LowRankUpdate& update, std::span<const ProductRows> products) {
  check(std::ssize(update.a) == update.rank * update.columns &&
            std::ssize(update.b) == update.rows * update.rank,
        "an update's A is (rank, columns), its B (rows, rank)");
  if (update.rank < 1) throw refuse_update(update, "must have a rank of at least 1, got 0");
  if (!is_covered(update, products))
    throw refuse_update(
        update,
        "cannot be changed while serving, as no product over all rows of a batch reads it "
        "(embeddings, heads, routers and experts are of this kind): merge the adapter instead");
  rank_ = std::max(rank_, update.rank);
  for (size_t p = 0; p < products.size(); ++p) {
    const auto& sections = products[p].sections;
    if (std::ranges::find(sections, update.tensor, &ProductSection::tensor) == sections.end()) continue;
    if (products[p].columns != update.columns)
      throw refuse_update(update, fmt::format("has {} columns in the model, but {} in the adapter",
                                              products[p].columns, update.columns));
    if (!products_[p])
      products_[p] = std::make_unique<Product>(Product{.down = {}, .up = std::vector<Up>(sections.size())});
    Product& product = *products_[p];
    const int64_t hidden = product.hidden;
    product.down.push_back(
        {pack(update.rank, update.columns,
              [&](int64_t lane, int64_t i) { return update.a[lane * update.columns + i]; }),
         hidden});
    product.hidden += ceil_div(update.rank, kLanePanel) * kLanePanel;
    for (size_t s = 0; s < sections.size(); ++s) {
      if (sections[s].tensor != update.tensor) continue;
      const float* b = update.b.data() + sections[s].tensor_row * update.rank;
      product.up[s] = {pack(sections[s].rows, update.rank,
                            [&](int64_t lane, int64_t i) { return b[lane * update.rank + i]; }),
                       hidden, sections[s].row, sections[s].rows};
    }
  }
}

template <typename F>
LanePanels HostAdapter::pack(int64_t count, int64_t inner, F weight) {
  LanePanels panels{.inner = ceil_div(inner, kLaneChains) * kLaneChains,
                    .panels = ceil_div(count, kLanePanel),
                    .bf16 = bf16_};
  const int64_t bytes = ceil_div(panels.panel_bytes() * panels.panels, 64) * 64;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes)));
  if (!data) throw std::bad_alloc();
  memory_.emplace_back(data);
  bytes_ += bytes;
  std::memset(data, 0, static_cast<size_t>(bytes));
  panels.data = data;
  for (int64_t lane = 0; lane < count; ++lane) {
    std::byte* to = data + lane / kLanePanel * panels.panel_bytes();
    for (int64_t i = 0; i < inner; ++i) {
      const int64_t index = place(bf16_, lane % kLanePanel, i);
      if (bf16_)
        reinterpret_cast<uint16_t*>(to)[index] = f32_to_bf16(weight(lane, i));
      else
        reinterpret_cast<float*>(to)[index] = weight(lane, i);
    }
  }
  return panels;
}

}  // namespace neutrino::compute
